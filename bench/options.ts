import { parseArgs } from 'node:util';
import { type SystemName, systemNames } from './systems/system.js';

export interface Options {
  /** Names of scenarios; undefined: all that are not run by name only. */
  readonly scenarios: readonly string[] | undefined;
  /** Systems beside the gateway; undefined: all. */
  readonly peers: readonly SystemName[] | undefined;
  readonly quick: boolean;
  readonly repeat: number;
  readonly jsonFile: string | undefined;
  readonly profile: boolean;
  readonly writeDocs: boolean;
}

const help = `Usage: npm run bench -- [options]

  --scenario a,b   only these scenarios (default: all but frozen, endurance, subjects, watch and ledger)
  --peer a,b       beside the gateway only these systems; "none": the gateway alone
  --quick          short runs, small fleets, one repetition: to see that it works, not to believe
  --repeat N       repetitions, interleaved over the systems; medians are shown (default 3)
  --json FILE      also write every measurement as JSON
  --profile        run the gateway under node --cpu-prof and show its hottest functions
  --write-docs     put the table into docs/performance.md

Scenarios: {scenarios}
Systems:   ${systemNames.join(', ')}
`;

/** Reads the command line. @returns text to show instead of running, when that was asked for or there is a mistake. */
export function readOptions(
  args: readonly string[],
  scenarioNames: readonly string[],
): Options | { readonly show: string; readonly exitCode: number } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        scenario: { type: 'string' },
        peer: { type: 'string' },
        quick: { type: 'boolean', default: false },
        repeat: { type: 'string' },
        json: { type: 'string' },
        profile: { type: 'boolean', default: false },
        'write-docs': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) return { show: help.replace('{scenarios}', scenarioNames.join(', ')), exitCode: 0 };
    const repeat = Number(values.repeat ?? (values.quick ? 1 : 3));
    if (!Number.isInteger(repeat) || repeat < 1 || repeat > 100)
      throw new Error('--repeat must be a whole number from 1 to 100');
    return {
      scenarios: readNames('--scenario', values.scenario, scenarioNames),
      peers: values.peer === 'none' ? [] : readNames('--peer', values.peer, systemNames),
      quick: values.quick,
      repeat,
      jsonFile: values.json,
      profile: values.profile,
      writeDocs: values['write-docs'],
    };
  } catch (error) {
    return { show: `${error instanceof Error ? error.message : String(error)}\n`, exitCode: 2 };
  }
}

function readNames<N extends string>(
  option: string,
  value: string | undefined,
  known: readonly N[],
): N[] | undefined {
  if (value === undefined) return undefined;
  return value.split(',').map((name) => {
    const found = known.find((each) => each === name.trim());
    if (found === undefined)
      throw new Error(`${option} cannot be "${name}": it is one of ${known.join(', ')}`);
    return found;
  });
}
