import type { Command } from 'commander';
import type { Add } from '../command/command.js';
import { toCount, toDurationMs } from '../command/usage-error.js';

/** Adds the command. */
export function addTailCommand(program: Command, add: Add): void {
  add(program, 'tail-nats [subject]', 'Show messages in NATS as they come', 'nats', async (call) =>
    (await import('./tail-nats.js')).tailNats(call),
  )
    .option('--count <n>', 'End after this many messages', toCount('--count', 1_000_000_000))
    .option(
      '--since <duration>',
      'Start with the messages stored since then, such as 90s, 10m, 2h or 1d',
      toDurationMs('--since'),
    )
    .option(
      '--timeout <duration>',
      'End after so long; with --count, status 1 if fewer came',
      toDurationMs('--timeout'),
    )
    .option(
      '--device <id>',
      'Only this device, by the subject of its policy or NATS_SUBJECT; excludes a subject',
    )
    .option('--full', 'Show payloads in full')
    .option('--json', 'One JSON object a line')
    .addHelpText(
      'after',
      `
The subject is raw.> unless given. Exit status: 0 also after Ctrl-C; 1 when --timeout ends it before --count.

JSON lines have time (when it was stored or received), subject, topic (the MQTT topic, or null), size (bytes of
the payload), seq (its number in the stream; absent on a subject that no stream covers), encoding and payload:
encoding json: payload is the JSON value itself; text: a string; base64: a string, for any other bytes.`,
    );
}
