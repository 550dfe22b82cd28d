import {
  commandSubjects,
  describeRetentionProblem,
  madeCommandStream,
} from '../../server/forward/commands/command-stream.js';
import type { NatsInspector, StreamInspection } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import { describeBytes } from './check-stream.js';
import type { Check } from './finding.js';

const lost = 'commands reach connected devices only, and no session that is away';
const again = 'svc-mqtt takes it up by itself';

/** Whether commands are stored until their devices come for them. */
export async function checkCommands(
  check: Check,
  around: { readonly serverRuns: boolean },
  inspector: NatsInspector,
): Promise<void> {
  const streams = await inspector.findStreams(commandSubjects);
  const covering = streams.find((stream) => stream.covering);
  const { name, subject } = madeCommandStream;
  if (covering !== undefined) checkStream(check, covering);
  else if (streams.length > 0) {
    const parts = streams.map((each) => `${each.name} (${each.subjects.join(', ')})`).join(' and ');
    check.warning(
      `Of ${commandSubjects}, ${parts} takes only a part: ${lost}`,
      `Let one stream take ${subject}; ${again}`,
    );
  } else if (around.serverRuns)
    check.warning(
      `No stream takes ${commandSubjects}: ${lost}`,
      `See commands_not_stored in the log, and let the user of svc-mqtt make ${name} (docs/services.md); ${again}`,
    );
  else check.ok(`serve creates ${name} for commands`);
}

function checkStream({ ok, warning, findings }: Check, stream: StreamInspection): void {
  const { name, messages, bytes, maxBytes } = stream;
  const retentionProblem = describeRetentionProblem(name, stream.retention, stream.sealed);
  const found = findings.length;
  if (retentionProblem !== undefined)
    warning(
      `The ${retentionProblem}; ${lost}`,
      `Make a stream with retention: limits for commands; ${again}`,
    );
  else if (!stream.hasLeader)
    warning(`Stream ${name} has no leader`, 'Bring back the servers of its cluster');
  else {
    if (!stream.direct)
      warning(
        `Stream ${name} does not have allow_direct: its leader alone reads commands for devices that come back`,
        `Run: nats stream edit ${name} --allow-direct`,
      );
    if (stream.inMemory)
      warning(
        `Stream ${name} keeps commands in memory: they are lost when its NATS server ends`,
        'Make it anew with file storage',
      );
    if (maxBytes !== undefined && bytes > 0.9 * maxBytes)
      warning(
        `Stream ${name} is nearly full: ${describeBytes(bytes)} of ${describeBytes(maxBytes)}; ${stream.discardsOld ? 'the oldest commands go' : 'it takes no more then'}`,
        `Run: nats stream edit ${name} with a larger --max-bytes or a shorter --max-age`,
      );
  }
  if (findings.length === found) ok(`Stream ${name} holds ${formatCount(messages, 'command')} for devices`);
}
