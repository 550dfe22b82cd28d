import { ask } from './ask.js';
import { away } from './away.js';
import { command } from './command.js';
import { endurance } from './endurance.js';
import { frozen } from './frozen.js';
import { idle } from './idle.js';
import { ledger } from './ledger.js';
import { mixed } from './mixed.js';
import { presence } from './presence.js';
import { comeBack } from './return.js';
import { rush, rushPaced } from './rush.js';
import type { Scenario } from './scenario.js';
import { storm } from './storm.js';
import { subjects } from './subjects.js';
import { throughputScenarios } from './throughput.js';
import { watch } from './watch.js';

export const scenarios: readonly Scenario[] = [
  ...throughputScenarios,
  storm,
  rush,
  rushPaced,
  idle,
  mixed,
  command,
  ask,
  presence,
  comeBack,
  away,
  watch,
  ledger,
  subjects,
  frozen,
  endurance,
];
