import { away } from './away.js';
import { command } from './command.js';
import { endurance } from './endurance.js';
import { frozen } from './frozen.js';
import { idle } from './idle.js';
import { mixed } from './mixed.js';
import { comeBack } from './return.js';
import { rush, rushPaced } from './rush.js';
import type { Scenario } from './scenario.js';
import { storm } from './storm.js';
import { subjects } from './subjects.js';
import { throughputScenarios } from './throughput.js';

export const scenarios: readonly Scenario[] = [
  ...throughputScenarios,
  storm,
  rush,
  rushPaced,
  idle,
  mixed,
  command,
  comeBack,
  away,
  subjects,
  frozen,
  endurance,
];
