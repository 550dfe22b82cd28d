import type { PassingMessageJson } from '../../api/passing-message.js';
import { messageOf, SvcMqttError } from '../../errors.js';
import { callApi, requirePlainPath } from './api-send.js';

export interface MessageListener {
  message(message: PassingMessageJson): void;
  /** So many are not shown. */
  missed(count: number): void;
}

/**
 * Follows the messages of a device as they pass, until the signal ends it.
 *
 * @throws SvcMqttError with the code of the API's problem; API_UNREACHABLE when the stream ends.
 */
export type FollowMessages = (
  device: string,
  listener: MessageListener,
  signal: AbortSignal,
) => Promise<void>;

/** The same over HTTP, from server-sent events. */
export function followOverHttp(url: string, key: string | undefined): FollowMessages {
  const base = url.replace(/\/+$/, '');
  const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return async (device, listener, signal) => {
    const path = `/devices/${encodeURIComponent(device)}/messages`;
    requirePlainPath(path);
    try {
      const response = await fetch(`${base}${path}`, { headers, signal, redirect: 'error' });
      if (!response.ok || response.body === null) {
        const { status } = response;
        await callApi(async () => ({ status, text: await response.text() }), 'GET', path);
        throw new Error('the answer is no stream');
      }
      let text = '';
      const decoder = new TextDecoder();
      for await (const chunk of response.body) {
        const parts = (text + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n\n');
        text = parts.pop() ?? '';
        for (const part of parts) tell(part, listener);
      }
      throw new Error('the stream has ended');
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SvcMqttError) throw error;
      throw new SvcMqttError('API_UNREACHABLE', `${base} does not show messages: ${messageOf(error)}`, {
        cause: error,
      });
    }
  };
}

function tell(part: string, listener: MessageListener): void {
  const [, event, data = '{}'] = /^event: (\w+)\ndata: (.*)$/m.exec(part) ?? [];
  if (event === 'message') listener.message(JSON.parse(data));
  if (event === 'missed') listener.missed(JSON.parse(data).count);
  if (event === 'ended')
    throw new SvcMqttError('NATS_UNREACHABLE', `No more messages come: ${JSON.parse(data).reason}`);
}
