import { readFileSync, statSync } from 'node:fs';
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { fileKey, flagForms, settingEntries } from './config.js';
import { SvcMqttError } from './errors.js';

/** Largest configuration file. */
const maxFileBytes = 262_144;

/** What a configuration file says. */
export interface ConfigFile {
  /** Values as text by key, each with its source as people find it: `file:line key`. */
  readonly entries: ReadonlyMap<string, { readonly source: string; readonly raw: string }>;
  /** What is wrong with single entries. */
  readonly problems: readonly string[];
}

/**
 * Reads a configuration file: one YAML map (JSON is YAML) from a setting's variable in lower case, such as `mqtt_port`,
 * to its value. A list stands for its items with commas between them; an empty value counts as unset.
 *
 * @throws SvcMqttError CONFIG_INVALID when the file cannot be read or is no such map.
 */
export function readConfigFile(path: string): ConfigFile {
  const lines = new LineCounter();
  const options = { lineCounter: lines, prettyErrors: false, schema: 'core', stringKeys: true } as const;
  const document = parseDocument(readText(path), options);
  const [error] = document.errors;
  if (error !== undefined) {
    // Its message may quote the line, which may hold a secret.
    const { line, col } = lines.linePos(error.pos[0]);
    throw invalid(`${path} is not YAML: ${error.code} at line ${line}, column ${col}`);
  }
  const entries = new Map<string, { source: string; raw: string }>();
  const problems: string[] = [];
  const { contents } = document;
  if (contents === null) return { entries, problems };
  if (!isMap(contents))
    throw invalid(`${path} must hold settings as "key: value", such as "mqtt_port: 1883"`);

  const known = knownKeys();
  for (const { key, value } of contents.items) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    const { line } = lines.linePos(key.range?.[0] ?? 0);
    const source = `${path}:${line} ${name}`;
    if (!known.includes(name)) {
      const near = known.find((each) => each.replaceAll('_', '') === name.replace(/[-_]/g, '').toLowerCase());
      problems.push(
        `${path}:${line}: there is no setting ${name}${near === undefined ? '' : ` (is ${near} meant?)`}`,
      );
      continue;
    }
    const raw = textOf(value);
    if (raw === undefined) problems.push(`${source} must be one value, or a list of values`);
    else if (raw !== '') entries.set(name, { source, raw });
  }
  return { entries, problems };
}

function readText(path: string): string {
  try {
    if (statSync(path).size > maxFileBytes) throw invalid(`${path} is over ${maxFileBytes} bytes`);
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof SvcMqttError) throw error;
    throw invalid(`${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
  }
}

/** Every key that a file may have. */
function knownKeys(): string[] {
  return settingEntries.flatMap(([, entry]) =>
    flagForms(entry).file ? [fileKey(entry), `${fileKey(entry)}_file`] : [fileKey(entry)],
  );
}

/** A value as it was written, so that a token of digits stays what it is. */
function textOf(node: unknown): string | undefined {
  if (node === null) return '';
  if (isScalar(node)) {
    if (node.value === null) return '';
    return typeof node.value === 'string' ? node.value : (node.source ?? String(node.value));
  }
  if (!isSeq(node)) return undefined;
  const items = node.items.map(textOf);
  return items.every((item) => item !== undefined) ? items.join(',') : undefined;
}

function invalid(detail: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', detail);
}
