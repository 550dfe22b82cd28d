import type { Scenario } from './scenario.js';
import { throughputScenarios } from './throughput.js';

export const scenarios: readonly Scenario[] = [...throughputScenarios];
