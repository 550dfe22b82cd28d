import { describeSchema, fileKey, flagForms, type SettingGroup, settingEntries } from '../../config.js';
import type { Call } from '../command/command.js';
import { groupTitles } from '../command/setting-options.js';
import { write } from '../terminal/io.js';

const lineLength = 100;

/** Shows a configuration file in which every setting stands commented out, at its default. */
export async function printConfigExample({ io }: Call): Promise<void> {
  await write(io.stdout, renderConfigExample());
}

/** The file, YAML. */
export function renderConfigExample(): string {
  const lines = [
    '# Settings of svc-mqtt, each at its default. Use with --config or SVC_MQTT_CONFIG.',
    '# An option beats the environment, which beats this file.',
  ];
  let group: SettingGroup | undefined;
  for (const [, entry] of settingEntries) {
    if (entry.group !== group) {
      group = entry.group;
      lines.push('', `# ---- ${groupTitles[group].replace(/:$/, '')} ----`);
    }
    const accepted = describeSchema(entry.schema);
    const isKnown = accepted === 'text of at least 1 character' || entry.help.includes(accepted);
    const rule = isKnown ? '' : ` (${accepted})`;
    const secret = flagForms(entry).file
      ? ` Or ${fileKey(entry)}_file: the path of a file that holds it.`
      : '';
    lines.push('', ...wrap(`${entry.help}${rule}.${secret}`).map((line) => `# ${line}`));
    lines.push(`#${fileKey(entry)}:${entry.default === undefined ? '' : ` ${toYaml(entry.default)}`}`);
  }
  return `${lines.join('\n')}\n`;
}

/** A default as YAML: quoted where it would not be read as the text that it is. */
function toYaml(value: unknown): string {
  return typeof value === 'string' && !/^[A-Za-z0-9./][A-Za-z0-9./_-]*$/.test(value)
    ? JSON.stringify(value)
    : String(value);
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > lineLength) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
