import { Argument, type Command } from 'commander';
import type { Add } from '../command/command.js';
import { printCompletionScript } from './script.js';

/** Adds the command. */
export function addCompletionCommand(program: Command, add: Add): void {
  add(
    program,
    'completion',
    'Print a script that completes commands and options',
    'none',
    printCompletionScript,
  )
    .addArgument(new Argument('<shell>', 'The shell it is for').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      `
bash: svc-mqtt completion bash > /etc/bash_completion.d/svc-mqtt
      or, for you alone, add to ~/.bashrc: source <(svc-mqtt completion bash)
zsh:  svc-mqtt completion zsh > "\${fpath[1]}/_svc-mqtt"
fish: svc-mqtt completion fish > ~/.config/fish/completions/svc-mqtt.fish`,
    );
}
