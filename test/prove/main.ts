import { writeFileSync } from 'node:fs';
import { fuzzProof } from './fuzz.js';
import { isIsolated, prove } from './isolated.js';
import { killProof } from './kill.js';
import { networkCutProof } from './network-cut.js';
import { type Options, readOptions } from './options.js';
import { powerCutProofs } from './power-cut.js';
import type { Proof } from './proof.js';
import { formatReport, makeReport, writeDocs } from './report.js';
import type { Outcome, TakenRound } from './run-proof.js';
import { slowDiskProof } from './slow-disk.js';

const proofs: readonly Proof[] = [...powerCutProofs, killProof, networkCutProof, slowDiskProof, fuzzProof];

async function main(options: Options, stopping: AbortSignal): Promise<void> {
  const startedAt = new Date();
  const outcomes: Outcome[] = [];
  for (const proof of proofs.filter(({ name }) => options.proofs.includes(name))) {
    if (stopping.aborted) break;
    if (!isIsolated) say(`${proof.name}: ${proof.claim}`);
    const outcome = await prove(proof, {
      rounds: options.rounds,
      minutes: options.minutes,
      seed: options.seed,
      stopping,
      onOutput: (text) => process.stderr.write(text),
      onRound: (round, rounds, share) => say(describe(proof, round, rounds, share)),
    });
    if (!isIsolated)
      say(`${proof.name}: ${outcome.result}${outcome.because.map((reason) => `\n  ${reason}`).join('')}`);
    outcomes.push(outcome);
    // After each, so that a run that is ended has not been for nothing.
    const report = makeReport(outcomes, startedAt);
    if (options.jsonFile !== undefined)
      writeFileSync(options.jsonFile, `${JSON.stringify(report, undefined, 2)}\n`);
    if (options.markdownFile !== undefined) writeFileSync(options.markdownFile, formatReport(report));
  }
  const text = formatReport(makeReport(outcomes, startedAt));
  process.stdout.write(text);
  if (options.writeDocs) writeDocs(text);
  if (outcomes.some(({ result }) => result === 'broken')) process.exitCode = 1;
}

/** A line with a bar of how much of the proof is done, on a terminal and in a log alike. */
function describe(proof: Proof, round: TakenRound, rounds: number, share: number): string {
  const { verdict } = round;
  const width = 20;
  const bar = '#'.repeat(Math.round(share * width)).padEnd(width, '.');
  const doubled = verdict.doubled.qos1 + verdict.doubled.qos2;
  return [
    `[${bar}] ${proof.name} round ${rounds}, seed ${round.seed}, ${round.seconds.toFixed(1)} s: ${shorten(round.done)}`,
    `acknowledged ${verdict.acknowledged}, lost ${verdict.lost.length}, doubled ${doubled}, reordered ${verdict.reordered.length}`,
    ...(round.problems.length === 0 ? [] : [shorten(round.problems)]),
  ].join(' | ');
}

/** What a line has room for. */
function shorten(items: readonly string[]): string {
  const most = 8;
  return [...items.slice(0, most), ...(items.length > most ? [`and ${items.length - most} more`] : [])].join(
    '; ',
  );
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

const options = readOptions(process.argv.slice(2));
if ('show' in options) {
  (options.exitCode === 0 ? process.stdout : process.stderr).write(options.show);
  process.exitCode = options.exitCode;
} else {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) process.exit(130);
      stopping.abort();
      say('stopping after this round; once more ends it at once');
    });
  }
  await main(options, stopping.signal);
}
