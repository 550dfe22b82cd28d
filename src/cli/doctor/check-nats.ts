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
import { type Finding, ok, problem, skipped, warning } from './finding.js';

/** What of NATS later checks need. */
export interface UsableNats {
  inspector: NatsInspector | undefined;
}

/** Looks at the NATS server and its streams; leaves the connection open in `found`, as the caller's to close. */
export async function checkNats(
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  found: UsableNats,
  add: (finding: Finding) => void,
): Promise<void> {
  const natsUrl = config.natsUrl ?? (await findEmbedded(config, add));
  if (natsUrl === undefined) {
    add(skipped('stream', 'There is no NATS server to ask'));
    return;
  }
  let inspector: NatsInspector;
  try {
    inspector = await openNatsInspector({ ...config, natsUrl });
  } catch (error) {
    add(skipped('stream', 'NATS cannot be used'));
    throw error;
  }
  found.inspector = inspector;
  const { url, version, jetstream, maxPayloadBytes } = inspector;
  const pingMs = await inspector.ping();
  add(ok('nats', `nats-server ${version} at ${url} answers in ${pingMs} ms`));
  if (maxPayloadBytes < config.maxPacketBytes) {
    const detail = `NATS takes ${describeBytes(maxPayloadBytes)} a message, less than MAX_PACKET_BYTES (${describeBytes(config.maxPacketBytes)})`;
    add(
      warning(
        'nats',
        detail,
        'Raise max_payload in NATS, or lower MAX_PACKET_BYTES: larger packets close the connection',
      ),
    );
  }
  if (!config.enableJetstream) {
    add(
      warning(
        'stream',
        'ENABLE_JETSTREAM=false: messages are acknowledged when NATS has them in memory, and stored nowhere',
        'Set ENABLE_JETSTREAM=true if messages must survive',
      ),
    );
    return;
  }
  if (!jetstream) {
    add(
      problem(
        'stream',
        'JetStream is not enabled on the NATS server',
        'Start nats-server with -js (or a jetstream block), or set ENABLE_JETSTREAM=false to do without storage',
      ),
    );
    return;
  }
  await checkStreams(config, around, inspector, add);
}

/** Where the embedded server is; undefined, with a finding, when none runs. */
async function findEmbedded(config: Config, add: (finding: Finding) => void): Promise<string | undefined> {
  const port = readEmbeddedNatsPort(config.dataDir) ?? config.embeddedNatsPort;
  const listener = port === 0 ? 'nothing' : await probeNats(port);
  if (listener === 'nats') return `nats://127.0.0.1:${port}`;
  if (listener === 'other') {
    const detail = `Port ${port} on 127.0.0.1 is taken by something that is not NATS`;
    add(problem('nats', detail, 'Set EMBEDDED_NATS_PORT to a free port, or NATS_URL to a NATS server'));
    return undefined;
  }
  const program = await findNatsServer(config.natsServerBin);
  if (program === undefined) {
    const detail = 'No NATS server runs on this machine, and there is no nats-server program to start';
    add(
      warning(
        'nats',
        detail,
        'Run svc-mqtt setup to get it now (serve does it at its start), or set NATS_URL',
      ),
    );
  } else {
    add(ok('nats', `No NATS server runs; serve starts ${program.path} (${program.version})`));
    const lacks = describeLacks(program.version);
    const remedy =
      'Run svc-mqtt setup to get a newer one; if this one is on the PATH, name the newer in NATS_SERVER_BIN';
    if (lacks !== undefined) add(warning('nats', lacks, remedy));
  }
  return undefined;
}

/** Whether a stream takes every subject that a device can produce. */
async function checkStreams(
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  inspector: NatsInspector,
  add: (finding: Finding) => void,
): Promise<void> {
  const looked = new Set<string>();
  let clockChecked = false;
  let uplink: StreamInspection | undefined;
  for (const { template, source } of templatesOf(config, around.policies)) {
    const unsound = checkSubjectTemplate(template);
    if (unsound !== undefined) {
      add(problem('stream', `${source} cannot be "${template}": ${unsound}`, 'Give it as raw.{id}'));
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
        add(
          ok('stream', `No stream takes ${needed} yet; serve creates ${config.natsStream} over ${offered}`),
        );
        continue;
      }
      const others = streams.map(({ name, subjects }) => `${name} (${subjects.join(', ')})`).join(' and ');
      const why = taken
        ? `${config.natsStream} exists and takes other subjects`
        : others === ''
          ? 'no stream does'
          : `${others} takes only a part`;
      add(
        problem(
          'stream',
          `${source} sends to ${needed}, which a stream must take as a whole: ${why}; such messages are never acknowledged`,
          `Add ${needed} to the subjects of one stream, or change ${source}`,
        ),
      );
      continue;
    }
    if (covering.now !== undefined && !clockChecked) {
      add(checkClock('NATS', { now: covering.now, askedMs, answeredMs }));
      clockChecked = true;
    }
    if (looked.has(covering.name)) continue;
    looked.add(covering.name);
    for (const finding of checkStreamState(covering, needed, config)) add(finding);
    if (template === config.natsSubject) uplink = covering;
    if (template === config.natsSubject) add(await checkAcknowledgement(config, inspector, covering.name));
  }
  const { deadLetterSubject } = config;
  if (deadLetterSubject !== undefined)
    add(await checkDeadLetters(deadLetterSubject, templatesOf(config, around.policies), looked, inspector));
  for (const finding of await checkCommands(around, inspector)) add(finding);
  for (const finding of await checkStateStreams(config, around, inspector, uplink)) add(finding);
  const { usedBytes, maxBytes } = await inspector.readStorage();
  if (maxBytes !== undefined && usedBytes > 0.8 * maxBytes) {
    const detail = `JetStream has used ${describeBytes(usedBytes)} of the ${describeBytes(maxBytes)} of this account`;
    const action = 'Raise max_file_store or the limit of the account, or have streams keep less';
    add(usedBytes > 0.95 * maxBytes ? problem('stream', detail, action) : warning('stream', detail, action));
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
