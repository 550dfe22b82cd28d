import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../../config.js';
import type { Log } from '../../../log.js';
import type { NatsLink } from '../connection/nats-link.js';
import { openNatsRequests } from '../connection/nats-requests.js';
import type { RunningForwarder } from '../start-forwarder.js';
import { type CommandStore, openCommandStore } from './command-store.js';
import { type Downlink, openDownlink } from './downlink.js';
import { openStoredDownlink } from './stored-downlink.js';

type RunningDownlink = Downlink & { close(): void };

/** How often the stream is looked for; also on every new connection. */
const lookAgainMs = 10_000;

/**
 * Opens the way to the devices: from the stream of commands where there is one or one can be made, else, which is said once, as
 * core NATS passes them on, until there is one.
 */
export async function startDownlink(
  { link, state }: Pick<RunningForwarder, 'link' | 'state'>,
  config: Pick<Config, 'maxIndexedCommands'>,
  log: Log,
): Promise<RunningDownlink> {
  if (state === undefined) return openDownlink(link, log);
  // Once, however often is looked.
  const requests = openNatsRequests(state.link, state.inboxPrefix);
  const look = () => openCommandStore({ ...state, maxIndexed: config.maxIndexedCommands, requests });
  const opened = await look();
  if (!('unavailable' in opened)) return openStoredDownlink(link, opened);
  const { unavailable: reason } = opened;
  log.warn(
    { event: 'commands_not_stored', reason },
    'commands are not stored: they reach devices that are connected, and no others, until there is a stream for them',
  );
  return openProvisionalDownlink(link, openDownlink(link, log, reason), look);
}

/**
 * The downlink for as long as there is no stream of commands to be had: as core NATS passes them on. From when there is one, and
 * what it holds is known, for good, they come from there.
 *
 * @param core what is used until then.
 * @param look opens the stream, or says why it cannot be used.
 */
function openProvisionalDownlink(
  link: NatsLink,
  core: RunningDownlink,
  look: () => Promise<CommandStore | { readonly unavailable: string }>,
): RunningDownlink {
  let current = core;
  let notStored = core.notStored;
  let opened: CommandStore | undefined;
  const closing = new AbortController();
  let woken = new AbortController();

  async function recover(): Promise<void> {
    while (!closing.signal.aborted) {
      woken = new AbortController();
      const signal = AbortSignal.any([closing.signal, woken.signal]);
      await delay(lookAgainMs, undefined, { signal, ref: false }).catch(() => {});
      if (closing.signal.aborted || link.connection === undefined) continue;
      const found = await look();
      if ('unavailable' in found) notStored = found.unavailable;
      else if (closing.signal.aborted) found.close();
      else {
        takeUp(found);
        return;
      }
    }
  }

  function takeUp(store: CommandStore): void {
    opened = store;
    const change = () => {
      if (!store.isCaughtUp || current !== core) return;
      const stored = openStoredDownlink(link, store);
      stored.deliver = core.deliver;
      // A command is passed on before it is stored: what is not known here by now comes from the stream.
      core.deliver = () => {};
      current = stored;
      downlink.onStored?.();
    };
    store.onChange(change);
    change();
  }

  link.listen({
    connected: () => woken.abort(),
    disconnected() {},
  });
  void recover();

  const downlink: RunningDownlink = {
    onStored: undefined,
    get deliver() {
      return current.deliver;
    },
    set deliver(given) {
      current.deliver = given;
    },
    get store() {
      return current.store;
    },
    get notStored() {
      return current === core ? notStored : undefined;
    },
    get reachable() {
      return current.reachable;
    },
    claim: (deviceId, onAnswer) => current.claim(deviceId, onAnswer),
    close() {
      closing.abort();
      core.close();
      opened?.close();
    },
  };
  return downlink;
}
