import { connect } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openKeptMessages } from '../../src/server/forward/state/kept-messages.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';

test('that messages may not be read is noticed, also when NATS is too slow to say it in time', async () => {
  const nats = await startNatsServer({
    configExtra: `authorization { users = [
      { user: other, password: p },
      { user: u, password: p, permissions: { publish: { deny: ["$JS.API.DIRECT.GET.>"] } } },
    ] }`,
  });
  onTestFinished(() => nats.stop());
  const { log } = openTestLog();
  const link = await connectNats(
    { ...noNatsSettings, natsUrl: nats.url.replace('nats://', 'nats://u:p@') },
    log,
  );
  onTestFinished(() => link.close());
  const connection = await connect({ servers: nats.url, user: 'other', pass: 'p' });
  onTestFinished(() => connection.close());
  const denied: string[] = [];
  const kept = openKeptMessages({
    link,
    inboxPrefix: '_INBOX',
    maxIndexed: 10,
    prefix: 'm.',
    toMessage: () => undefined,
    onDenied: (reason) => denied.push(reason),
  });
  onTestFinished(() => kept.close());
  kept.begin({
    connection,
    manager: await connection.jetstreamManager(),
    domain: undefined,
    stream: { name: 'M', direct: true },
    incarnation: 'M 1',
    anew: false,
    firstSequence: 0,
    lastSequence: 0,
  });
  expect(kept.caughtUp()).toBe(true);
  await nats.pause();
  expect(kept.caughtUp()).toBe(false);
  // Longer than an answer is waited for.
  const pausedAtMs = performance.now();
  await until(() => performance.now() > pausedAtMs + 3_800);
  nats.resume();
  await until(() => denied.length > 0);
  expect(denied).toEqual(['NATS does not let the user publish to $JS.API.DIRECT.GET.M']);
});
