import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { formatBars } from './bars.js';
import { writeDocs } from './docs.js';
import { openFleet } from './fleet.js';
import { checkOpenFiles, readMachine } from './machine.js';
import type { Measurement } from './measure.js';
import { type Options, readOptions } from './options.js';
import { formatHotFunctions } from './profile.js';
import { formatMachine, formatScenario, formatSystems, type Summary, summarize } from './report.js';
import { scenarios } from './scenarios/all.js';
import { fullSizes, quickSizes, type Scenario } from './scenarios/scenario.js';
import { endEverythingAtExit, openScope, progress, report, type Scope, within } from './scope.js';
import { systems } from './systems/all.js';
import type { SystemName } from './systems/system.js';

/** Longest time of one run of one scenario on one system. */
const runWithinMs = 20 * 60_000;

async function main(options: Options, scope: Scope, stopping: AbortSignal): Promise<void> {
  const sizes = options.quick ? quickSizes : fullSizes;
  const chosen = scenarios.filter(({ name, byNameOnly }) =>
    options.scenarios === undefined ? byNameOnly !== true : options.scenarios.includes(name),
  );
  const devices = Math.max(...chosen.map((scenario) => scenario.devices(sizes)));
  const problem = checkOpenFiles(Math.max(...chosen.map((scenario) => scenario.clients(sizes))));
  if (problem !== undefined) {
    progress(problem);
    process.exitCode = 1;
    return;
  }
  const fleet = await openFleet(scope, devices);
  const plan = await makePlan(chosen, options);
  const machine = await readMachine([...new Set(plan.flatMap(({ names }) => names))], fleet);
  const profileDirectory = options.profile
    ? mkdtempSync(path.join(tmpdir(), 'svc-mqtt-profile-'))
    : undefined;

  const measurements: Measurement[] = [];
  const summaries: Summary[] = [];
  const heading = `${formatMachine(machine)}${options.quick ? 'Quick run: short, with small fleets; not to be believed.\n' : ''}`;
  process.stdout.write(`${heading}\n`);
  let text = '';
  for (const { scenario, names } of plan) {
    // A B C A B C …: what disturbs the machine for a while disturbs all alike.
    for (let repetition = 1; repetition <= options.repeat; repetition += 1) {
      for (const name of names) {
        const directory =
          profileDirectory === undefined ? undefined : path.join(profileDirectory, scenario.name, name);
        if (directory !== undefined) mkdirSync(directory, { recursive: true });
        const measurement = await runOnce(scenario, name, directory, repetition === 1);
        stopping.throwIfAborted();
        measurements.push(measurement);
        progress(`${scenario.name} ${repetition}/${options.repeat} ${name}: ${describe(measurement)}`);
      }
    }
    const mine = names.flatMap(
      (name) =>
        summarize(measurements.filter((one) => one.scenario === scenario.name && one.system === name)) ?? [],
    );
    summaries.push(...mine);
    const table = formatScenario(scenario, mine);
    text += `${formatScenario(scenario, mine, true)}\n`;
    process.stdout.write(`${table}\n`);
    if (profileDirectory !== undefined)
      for (const name of names.filter(isGateway))
        process.stdout.write(
          `${name}: ${formatHotFunctions(path.join(profileDirectory, scenario.name, name), 30)}\n`,
        );
  }
  const bars = formatBars(summaries);
  process.stdout.write(`${formatSystems(summaries)}\n${bars}`);
  if (options.jsonFile !== undefined) {
    const json = { machine, quick: options.quick, summaries, measurements };
    writeFileSync(options.jsonFile, `${JSON.stringify(json, undefined, 2)}\n`);
  }
  if (options.writeDocs) writeDocs([heading, text, bars].join('\n'));
  if (summaries.some((summary) => summary.system.startsWith('gateway') && summary.problems.length > 0))
    process.exitCode = 1;

  async function runOnce(
    scenario: Scenario,
    name: SystemName,
    directory: string | undefined,
    checkContents: boolean,
  ): Promise<Measurement> {
    const runScope = openScope();
    const release = scope.add(() => runScope.close());
    const mine = isGateway(name) ? directory : undefined;
    const work = async () => {
      await fleet.settle();
      const system = await systems[name].start({ scope: runScope, fleet, profileDirectory: mine });
      const measurement = await scenario.run({ scope: runScope, fleet, sizes, system, checkContents });
      const ended = system.parts
        .filter(({ pid }) => !isAlive(pid))
        .map(({ role }) => `the ${role} process ended`);
      return { ...measurement, problems: [...ended, ...measurement.problems] };
    };
    try {
      return await within(work(), runWithinMs, `${scenario.name} on ${name}`);
    } catch (error) {
      if (!stopping.aborted) report(error);
      return emptyMeasurement(scenario, name, String(error));
    } finally {
      await release();
    }
  }
}

function isGateway(name: SystemName): boolean {
  return name.startsWith('gateway');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process is there, and may not be signalled.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Which systems run which scenario: those asked for that are installed. */
async function makePlan(
  chosen: readonly Scenario[],
  options: Options,
): Promise<{ scenario: Scenario; names: SystemName[] }[]> {
  const absent = new Set<SystemName>();
  for (const system of Object.values(systems)) {
    if ((await system.version()) !== undefined) continue;
    absent.add(system.name);
    progress(`${system.name} is not installed and is left out`);
  }
  return chosen.map((scenario) => ({
    scenario,
    names: scenario.systems.filter(
      (name) =>
        !absent.has(name) && (isGateway(name) || options.peers === undefined || options.peers.includes(name)),
    ),
  }));
}

function emptyMeasurement(scenario: Scenario, name: SystemName, problem: string): Measurement {
  return {
    scenario: scenario.name,
    system: name,
    ratePerSec: undefined,
    cpuUs: {},
    latency: undefined,
    peakBytes: {},
    foreignCores: undefined,
    verified: undefined,
    problems: [problem],
    figures: {},
  };
}

function describe(measurement: Measurement): string {
  const { ratePerSec, cpuUs, verified, problems, foreignCores = 0, figures } = measurement;
  return [
    ...(ratePerSec === undefined ? [] : [`${Math.round(ratePerSec)}/s`]),
    ...Object.entries(cpuUs).map(([part, us]) => `${part} ${us.toFixed(2)} µs`),
    ...Object.entries(figures).map(([name, value]) => `${name} ${value.toFixed(1)}`),
    ...(verified === undefined ? [] : [verified]),
    ...(foreignCores > 0.05 ? [`others used ${foreignCores.toFixed(2)} cores`] : []),
    ...problems.map((problem) => `WRONG: ${problem}`),
  ].join(', ');
}

const options = readOptions(
  process.argv.slice(2),
  scenarios.map(({ name }) => name),
);
if ('show' in options) {
  (options.exitCode === 0 ? process.stdout : process.stderr).write(options.show);
  process.exitCode = options.exitCode;
} else if (process.platform !== 'linux') {
  progress('The benchmark reads CPU times and memory from /proc, which only Linux has');
  process.exitCode = 1;
} else {
  endEverythingAtExit();
  const scope = openScope();
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) process.exit(130);
      stopping.abort();
      progress('stopping …');
      void scope.close().finally(() => process.exit(130));
    });
  }
  try {
    await main(options, scope, stopping.signal);
  } catch (error) {
    if (!stopping.signal.aborted) report(error);
    process.exitCode = stopping.signal.aborted ? 130 : 1;
  } finally {
    await scope.close();
  }
}
