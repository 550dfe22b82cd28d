import type { Call } from '../command/command.js';
import { write } from '../terminal/io.js';

/** What the scripts call: the words of a command line so far, the last one unfinished. Not shown in the help. */
export const completeCommand = '__complete';

/** Where there is no candidate, a shell offers files: most values that are no words of this program are paths. */
const scripts: Readonly<Record<string, string>> = {
  bash: `_svc_mqtt() {
  local IFS=$'\\n' current="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(compgen -W "$(svc-mqtt ${completeCommand} "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1)" -- "$current"))
}
complete -o default -F _svc_mqtt svc-mqtt
`,
  zsh: `#compdef svc-mqtt
_svc_mqtt() {
  local line
  local -a candidates
  for line in "\${(@f)$(svc-mqtt ${completeCommand} "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] && candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}")
  done
  if (( $#candidates )); then _describe svc-mqtt candidates; else _files; fi
}
if [[ $funcstack[1] == _svc-mqtt ]]; then _svc_mqtt "$@"; else compdef _svc_mqtt svc-mqtt; fi
`,
  fish: `function __svc_mqtt_complete
  set -l words (commandline -opc)
  set -l candidates (svc-mqtt ${completeCommand} $words[2..] (commandline -ct) 2>/dev/null)
  if test (count $candidates) -gt 0
    printf '%s\\n' $candidates
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c svc-mqtt -f -a '(__svc_mqtt_complete)'
`,
};

/** Prints the script of a shell. */
export async function printCompletionScript({ args: [shell = ''], io }: Call): Promise<void> {
  await write(io.stdout, scripts[shell] ?? '');
}
