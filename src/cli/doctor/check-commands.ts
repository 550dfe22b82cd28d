import {
  commandSubjects,
  describeRetentionProblem,
  madeCommandStream,
} from '../../server/forward/commands/command-stream.js';
import type { NatsInspector, StreamInspection } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import { describeBytes } from './check-stream.js';
import { type Finding, ok, warning } from './finding.js';

const lost = 'commands reach connected devices only, and no session that is away';
const again = 'svc-mqtt takes it up by itself';

/** Whether commands are stored until their devices come for them. */
export async function checkCommands(
  around: { readonly serverRuns: boolean },
  inspector: NatsInspector,
): Promise<Finding[]> {
  const streams = await inspector.findStreams(commandSubjects);
  const covering = streams.find((stream) => stream.covering);
  const { name, subject } = madeCommandStream;
  if (covering === undefined && streams.length > 0) {
    const parts = streams.map((each) => `${each.name} (${each.subjects.join(', ')})`).join(' and ');
    return find(
      `Of ${commandSubjects}, ${parts} takes only a part: ${lost}`,
      `Let one stream take ${subject}; ${again}`,
    );
  }
  if (covering === undefined) {
    if (around.serverRuns)
      return find(
        `No stream takes ${commandSubjects}: ${lost}`,
        `See commands_not_stored in the log, and let the user of svc-mqtt make ${name} (docs/services.md); ${again}`,
      );
    return [ok('commands', `serve creates ${name} for commands`)];
  }
  return checkStream(covering);
}

function checkStream(stream: StreamInspection): Finding[] {
  const { name, messages, bytes, maxBytes } = stream;
  const problem = describeRetentionProblem(name, stream.retention, stream.sealed);
  if (problem !== undefined)
    return find(`The ${problem}; ${lost}`, `Make a stream with retention: limits for commands; ${again}`);
  if (!stream.hasLeader) return find(`Stream ${name} has no leader`, 'Bring back the servers of its cluster');
  const findings: Finding[] = [];
  const add = (detail: string, action: string) => findings.push(...find(detail, action));
  if (!stream.direct)
    add(
      `Stream ${name} does not have allow_direct: its leader alone reads commands for devices that come back`,
      `Run: nats stream edit ${name} --allow-direct`,
    );
  if (stream.inMemory)
    add(
      `Stream ${name} keeps commands in memory: they are lost when its NATS server ends`,
      'Make it anew with file storage',
    );
  if (maxBytes !== undefined && bytes > 0.9 * maxBytes)
    add(
      `Stream ${name} is nearly full: ${describeBytes(bytes)} of ${describeBytes(maxBytes)}; ${stream.discardsOld ? 'the oldest commands go' : 'it takes no more then'}`,
      `Run: nats stream edit ${name} with a larger --max-bytes or a shorter --max-age`,
    );
  if (findings.length > 0) return findings;
  return [ok('commands', `Stream ${name} holds ${formatCount(messages, 'command')} for devices`)];
}

function find(detail: string, action: string): Finding[] {
  return [warning('commands', detail, action)];
}
