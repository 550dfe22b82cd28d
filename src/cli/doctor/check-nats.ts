import type { Config } from '../../config.js';
import type { DevicePolicy } from '../../db/policies.js';
import { probeNats } from '../../server/forward/connection/nats-probe.js';
import { readEmbeddedNatsPort } from '../../server/forward/embedded/embedded-nats.js';
import { describeLacks, findNatsServer } from '../../server/forward/embedded/nats-server-program.js';
import {
  type NatsInspector,
  openNatsInspector,
  type StreamInspection,
} from '../../server/forward/stream/inspect-nats.js';
import { checkSubjectTemplate, subjectsOfTemplate } from '../../subject-template.js';
import { checkAcknowledgement } from './check-acknowledgement.js';
import { checkClock } from './check-clock.js';
import { checkCommands } from './check-commands.js';
import { checkDeadLetters } from './check-dead-letters.js';
import { checkStateStreams } from './check-state-streams.js';
import { checkStreamState, describeBytes } from './check-stream.js';
import type { Check } from './finding.js';

/** What of NATS later checks need. */
export interface UsableNats {
  inspector: NatsInspector | undefined;
}

/** Looks at the NATS server and its streams; leaves the connection open in `found`, as the caller's to close. */
export async function checkNats(
  check: Check,
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  found: UsableNats,
): Promise<void> {
  const stream = check.named('stream');
  const natsUrl = config.natsUrl ?? (await findEmbedded(check, config));
  if (natsUrl === undefined) return stream.skipped('There is no NATS server to ask');
  let inspector: NatsInspector;
  try {
    inspector = await openNatsInspector({ ...config, natsUrl });
  } catch (error) {
    stream.skipped('NATS cannot be used');
    throw error;
  }
  found.inspector = inspector;
  const { url, version, jetstream, maxPayloadBytes } = inspector;
  const pingMs = await inspector.ping();
  check.ok(`nats-server ${version} at ${url} answers in ${pingMs} ms`);
  if (maxPayloadBytes < config.maxPacketBytes)
    check.warning(
      `NATS takes ${describeBytes(maxPayloadBytes)} a message, less than MAX_PACKET_BYTES (${describeBytes(config.maxPacketBytes)})`,
      'Raise max_payload in NATS, or lower MAX_PACKET_BYTES: larger packets close the connection',
    );
  if (!config.enableJetstream)
    return stream.warning(
      'ENABLE_JETSTREAM=false: messages are acknowledged when NATS has them in memory, and stored nowhere',
      'Set ENABLE_JETSTREAM=true if messages must survive',
    );
  if (!jetstream)
    return stream.problem(
      'JetStream is not enabled on the NATS server',
      'Start nats-server with -js (or a jetstream block), or set ENABLE_JETSTREAM=false to do without storage',
    );
  await checkStreams(stream, config, around, inspector);
}

/** Where the embedded server is; undefined, with a finding, when none runs. */
async function findEmbedded(check: Check, config: Config): Promise<string | undefined> {
  const port = readEmbeddedNatsPort(config.dataDir) ?? config.embeddedNatsPort;
  const listener = port === 0 ? 'nothing' : await probeNats(port);
  if (listener === 'nats') return `nats://127.0.0.1:${port}`;
  if (listener === 'other') {
    check.problem(
      `Port ${port} on 127.0.0.1 is taken by something that is not NATS`,
      'Set EMBEDDED_NATS_PORT to a free port, or NATS_URL to a NATS server',
    );
    return undefined;
  }
  const program = await findNatsServer(config.natsServerBin);
  if (program === undefined) {
    check.warning(
      'No NATS server runs on this machine, and there is no nats-server program to start',
      'Run svc-mqtt setup to get it now (serve does it at its start), or set NATS_URL',
    );
    return undefined;
  }
  check.ok(`No NATS server runs; serve starts ${program.path} (${program.version})`);
  const lacks = describeLacks(program.version);
  if (lacks !== undefined)
    check.warning(
      lacks,
      'Run svc-mqtt setup to get a newer one; if this one is on the PATH, name the newer in NATS_SERVER_BIN',
    );
  return undefined;
}

/** Whether a stream takes every subject that a device can produce. */
async function checkStreams(
  check: Check,
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  inspector: NatsInspector,
): Promise<void> {
  const templates = templatesOf(config, around.policies);
  const looked = new Set<string>();
  let clockChecked = false;
  let uplink: StreamInspection | undefined;
  for (const { template, source } of templates) {
    const unsound = checkSubjectTemplate(template);
    if (unsound !== undefined) {
      check.problem(`${source} cannot be "${template}": ${unsound}`, 'Give it as raw.{id}');
      continue;
    }
    const { needed, offered } = subjectsOfTemplate(template);
    const askedMs = Date.now();
    const streams = await inspector.findStreams(needed);
    const answeredMs = Date.now();
    const covering = streams.find((stream) => stream.covering);
    if (covering === undefined) {
      const creates = template === config.natsSubject && streams.length === 0 && !around.serverRuns;
      const taken = creates && (await inspector.streamExists(config.natsStream));
      if (creates && !taken) {
        check.ok(`No stream takes ${needed} yet; serve creates ${config.natsStream} over ${offered}`);
        continue;
      }
      const others = streams.map(({ name, subjects }) => `${name} (${subjects.join(', ')})`).join(' and ');
      const why = taken
        ? `${config.natsStream} exists and takes other subjects`
        : others === ''
          ? 'no stream does'
          : `${others} takes only a part`;
      check.problem(
        `${source} sends to ${needed}, which a stream must take as a whole: ${why}; such messages are never acknowledged`,
        `Add ${needed} to the subjects of one stream, or change ${source}`,
      );
      continue;
    }
    if (covering.now !== undefined && !clockChecked) {
      checkClock(check.named('clock'), 'NATS', { now: covering.now, askedMs, answeredMs });
      clockChecked = true;
    }
    if (looked.has(covering.name)) continue;
    looked.add(covering.name);
    checkStreamState(check, covering, needed, config);
    if (template !== config.natsSubject) continue;
    uplink = covering;
    await checkAcknowledgement(check.named('acknowledgement'), config, inspector, covering.name);
  }
  if (config.deadLetterSubject !== undefined)
    await checkDeadLetters(
      check.named('dead-letters'),
      config.deadLetterSubject,
      templates,
      looked,
      inspector,
    );
  await checkCommands(check.named('commands'), around, inspector);
  await checkStateStreams(check, config, around, inspector, uplink);
  const { usedBytes, maxBytes } = await inspector.readStorage();
  if (maxBytes !== undefined && usedBytes > 0.8 * maxBytes) {
    const find = usedBytes > 0.95 * maxBytes ? check.problem : check.warning;
    find(
      `JetStream has used ${describeBytes(usedBytes)} of the ${describeBytes(maxBytes)} of this account`,
      'Raise max_file_store or the limit of the account, or have streams keep less',
    );
  }
}

function templatesOf(
  config: Config,
  policies: readonly DevicePolicy[],
): { template: string; source: string }[] {
  const own = { template: config.natsSubject, source: 'NATS_SUBJECT' };
  const further = policies.flatMap(({ type, natsSubject }) =>
    typeof natsSubject === 'string' && natsSubject !== config.natsSubject
      ? [{ template: natsSubject, source: `the policy of type ${type}` }]
      : [],
  );
  return [own, ...further];
}
