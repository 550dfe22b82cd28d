import { escapeControls, formatCount } from '../terminal/text.js';
import type { Finding, FindingStatus } from './finding.js';

const marks: Readonly<Record<FindingStatus, string>> = { ok: '✔', warning: '!', problem: '✖', skipped: '-' };
/** SGR codes: green, yellow, red, grey. */
const colourCodes: Readonly<Record<FindingStatus, number>> = {
  ok: 32,
  warning: 33,
  problem: 31,
  skipped: 90,
};
const nameWidth = 11;

/** A finding as a line, and what to do as a second one. */
export function formatFinding(finding: Finding, { colours }: { colours: boolean }): string {
  const { check, status, detail, action } = finding;
  const paint = (text: string) => (colours ? `\u001b[${colourCodes[status]}m${text}\u001b[0m` : text);
  const line = `${paint(marks[status])} ${check.padEnd(nameWidth)} ${escapeControls(detail)}\n`;
  return action === undefined ? line : `${line}${' '.repeat(nameWidth + 3)}→ ${escapeControls(action)}\n`;
}

/** One line that sums the findings up. */
export function formatSummary(findings: readonly Finding[]): string {
  const count = (status: FindingStatus) => findings.filter((finding) => finding.status === status).length;
  const problems = count('problem');
  const warnings = count('warning');
  const left = count('skipped');
  const parts = [
    problems === 0 ? 'No problems' : formatCount(problems, 'problem'),
    ...(warnings === 0 ? [] : [formatCount(warnings, 'warning')]),
    ...(left === 0 ? [] : [`${left} not looked at`]),
  ];
  return `${parts.join(', ')}.\n`;
}
