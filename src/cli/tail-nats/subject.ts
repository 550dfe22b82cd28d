import { deviceSubject } from '../../server/forward/subject.js';
import { usageError } from '../command/usage-error.js';

/** Longer ones are no use and, in bytes, could exceed the control line that NATS reads. */
const maxSubjectLength = 1_024;

/**
 * The subject to show: the one given, the one of a device, or `raw.>`.
 *
 * @param templateOf the template of a device's subject.
 * @throws SvcMqttError USAGE.
 */
export async function chooseSubject(
  given: string | undefined,
  device: string | undefined,
  templateOf: (device: string) => Promise<string>,
): Promise<string> {
  if (device !== undefined && given !== undefined) {
    throw usageError('--device and a subject cannot be used together', 'Give one of them');
  }
  if (device === undefined) {
    const subject = given ?? 'raw.>';
    const problem = checkSubject(subject);
    if (problem !== undefined) {
      throw usageError(`The subject "${subject}" ${problem}`, 'Give it as raw.> or raw.<device id>');
    }
    return subject;
  }
  const template = device === '' ? '{id}' : await templateOf(device);
  const subject = deviceSubject(template, device);
  if (subject === undefined) {
    throw usageError(`With the subject ${template} nothing singles out a device`, 'Give a subject');
  }
  if (device === '' || checkSubject(subject) !== undefined) {
    throw usageError(`--device cannot be "${device}": no device has this id`);
  }
  return subject;
}

/**
 * Checks a NATS subject with wildcards, as a subscription takes it.
 *
 * @returns what is wrong, in words that follow "subject", or undefined when nothing is.
 */
export function checkSubject(subject: string): string | undefined {
  if (subject === '') return 'must not be empty';
  if (subject.length > maxSubjectLength) return `must not be over ${maxSubjectLength} characters`;
  if (/[\s\p{Cc}]/u.test(subject)) return 'must not contain white space or control characters';
  const tokens = subject.split('.');
  if (tokens.includes('')) return 'must not have an empty token: no dot at its ends, no two in a row';
  for (const [index, token] of tokens.entries()) {
    if (token === '>' && index !== tokens.length - 1) return 'may have > as its last token only';
    if (token.length > 1 && /[*>]/.test(token)) return 'may have * and > only as whole tokens';
  }
  return undefined;
}
