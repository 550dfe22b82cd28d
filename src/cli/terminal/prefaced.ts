import { SvcMqttError } from '../../errors.js';
import { Interrupted } from './io.js';

/**
 * The failure, or the signal, that ended something in its midst, told behind what is known of the rest.
 *
 * @param preface such as `3 of 5 devices were added, and then`.
 */
export function prefaced(error: unknown, preface: string): unknown {
  if (error instanceof Interrupted) return new Interrupted(error.message, `${preface}: interrupted`);
  if (!(error instanceof SvcMqttError)) return error;
  const { code, message, suggestion } = error;
  return new SvcMqttError(code, `${preface}: ${message}`, {
    cause: error,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}
