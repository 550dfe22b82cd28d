import type { Command } from 'commander';
import type { Add } from '../command/command.js';

const notes = `
Each line has a mark (✔ in order, ! works and should be looked at, ✖ a problem, - not looked at), what was looked at,
how it is, and what to do. Run it with the settings of the server, beside the server or before its start. Every
replica is asked over NATS how it is; one that does not answer, or has other settings, is named. While a server
runs, a message goes through it by MQTT 3.1.1 and one by MQTT 5, and a command to a device that has left and comes back
for it: a device of the type svc-mqtt-doctor is added for them and removed again, and so are its session and the command.

Exit status: 0 no problem, 1 a problem, 2 the command line is wrong.`;

/** Adds the command. */
export function addDoctorCommand(program: Command, add: Add): void {
  add(program, 'doctor', 'Check everything that the gateway needs and say what to do', 'all', async (call) =>
    (await import('./doctor.js')).runDoctor(call),
  )
    .option(
      '--no-message',
      'Add no device and send no message or command; otherwise two messages stay in the stream',
    )
    .option('--json', 'One JSON object: status (ok, problems) and checks with check, status, detail, action')
    .addHelpText('after', notes);
}
