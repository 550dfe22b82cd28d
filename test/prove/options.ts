import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type ProofName, proofNames } from './proof.js';

export interface Options {
  readonly proofs: readonly ProofName[];
  /** Rounds of each proof; undefined: its own number, or as many as the minutes allow. */
  readonly rounds: number | undefined;
  /** Minutes of each proof; undefined: until its rounds are done. */
  readonly minutes: number | undefined;
  /** Of the first round; each later one has the next number. */
  readonly seed: number;
  readonly jsonFile: string | undefined;
  readonly markdownFile: string | undefined;
  readonly writeDocs: boolean;
}

const help = `Usage: npm run prove -- [options]

  --proof a,b      only these: ${proofNames.join(', ')}
  --rounds N       rounds of each proof (default: each has its own number)
  --minutes N      no new round of a proof after so many minutes; without --rounds, rounds until then
  --seed N         of the first round; each later one has the next number (default: random)
  --json FILE      also write every round as JSON
  --markdown FILE  also write the report as Markdown
  --write-docs     put the report into docs/proof.md

A round is had again with its proof, its seed and --rounds 1.
`;

/** Reads the command line. @returns text to show instead of running, when that was asked for or there is a mistake. */
export function readOptions(
  args: readonly string[],
): Options | { readonly show: string; readonly exitCode: number } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        proof: { type: 'string' },
        rounds: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        json: { type: 'string' },
        markdown: { type: 'string' },
        'write-docs': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) return { show: help, exitCode: 0 };
    return {
      proofs: values.proof === undefined ? proofNames : values.proof.split(',').map(readName),
      rounds: readNumber('--rounds', values.rounds, 1, 1_000_000),
      minutes: readNumber('--minutes', values.minutes, 1, 100_000),
      seed: readNumber('--seed', values.seed, 0, 2 ** 32 - 1) ?? randomInt(2 ** 32),
      jsonFile: values.json,
      markdownFile: values.markdown,
      writeDocs: values['write-docs'],
    };
  } catch (error) {
    return { show: `${error instanceof Error ? error.message : String(error)}\n`, exitCode: 2 };
  }
}

function readName(text: string): ProofName {
  const found = proofNames.find((name) => name === text.trim());
  if (found === undefined)
    throw new Error(`--proof cannot be "${text}": it is one of ${proofNames.join(', ')}`);
  return found;
}

function readNumber(
  option: string,
  text: string | undefined,
  least: number,
  most: number,
): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (!Number.isInteger(number) || number < least || number > most)
    throw new Error(`${option} must be a whole number from ${least} to ${most}, and is "${text}"`);
  return number;
}
