import { adviseOnMemory, messageOf, openFilesAdvice, SvcMqttError } from '../../errors.js';
import { escapeControls } from './text.js';

/**
 * What to say on stderr about a failure: one line that says what happened and what to do; with `withStack` the
 * stack and its causes as well.
 */
export function describeFailure(
  error: unknown,
  options: { withStack: boolean },
): { text: string; exitStatus: number } {
  const known = toFailure(error);
  const line = `svc-mqtt: ${escapeControls(known.toLine())}\n`;
  const stack = options.withStack ? stackOf(error) : '';
  return { text: line + stack, exitStatus: known.exitStatus };
}

/** A failure of writing results, or of having memory or files, has a cause outside; whatever else is unknown is a defect. */
export function toFailure(error: unknown): SvcMqttError {
  if (error instanceof SvcMqttError) return error;
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (syscall === 'write' && code !== undefined) {
    return new SvcMqttError('INTERNAL', `The results could not be written: ${messageOf(error)}`);
  }
  if (code === 'EMFILE' || code === 'ENFILE') {
    return new SvcMqttError('INTERNAL', `The system refuses to open another file: ${messageOf(error)}`, {
      suggestion: openFilesAdvice,
    });
  }
  const memoryAdvice = adviseOnMemory(messageOf(error));
  if (memoryAdvice !== undefined) {
    return new SvcMqttError('INTERNAL', `The system refuses memory to this process: ${messageOf(error)}`, {
      suggestion: memoryAdvice,
    });
  }
  return new SvcMqttError('INTERNAL', `Internal error: ${messageOf(error)}`, {
    suggestion: 'Please report it; LOG_LEVEL=debug shows the stack',
  });
}

function stackOf(error: unknown): string {
  const lines: string[] = [];
  for (let each = error, depth = 0; each instanceof Error && depth < 5; each = each.cause, depth += 1) {
    lines.push(`${depth === 0 ? '' : 'caused by: '}${each.stack ?? String(each)}\n`);
  }
  return lines.join('');
}
