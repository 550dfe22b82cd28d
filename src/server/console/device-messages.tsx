import { useEffect, useState } from 'preact/hooks';
import type { PassingMessageJson } from '../../api/passing-message.js';
import type { ApiError } from './api-error.js';
import { useSession } from './session.js';
import { type Column, column, Table } from './table.js';
import { bytes, integer, shown, time } from './text.js';
import { Button, Empty, ProblemBox, Section } from './ui.js';

/** Most messages that are shown; of more, the oldest go. */
const kept = 50;

type ShownMessage = PassingMessageJson & { readonly key: number };

const columns: readonly Column<ShownMessage>[] = [
  column('Time', { width: '6.2rem' }, ({ at }) => time(at).slice(11)),
  column('Topic', { class: 'medium' }, ({ topic, subject }) => shown(topic ?? subject)),
  column('Size', { width: '6rem', class: 'right' }, ({ size }) => bytes(size)),
  column('Payload', { class: 'wrap' }, (message) => showPayload(message)),
];

/** The messages of a device as they pass, from when one asks for them: that is noted in the log. */
export function DeviceMessages({ id }: { id: string }) {
  const [follows, setFollows] = useState(false);
  return (
    <Section title="Messages as they pass">
      <p>
        <Button text="Follow" pressed={follows} onClick={() => setFollows(!follows)} />
      </p>
      {follows && <Passing id={id} />}
    </Section>
  );
}

function Passing({ id }: { id: string }) {
  const { source } = useSession();
  const [messages, setMessages] = useState<readonly ShownMessage[]>([]);
  const [missed, setMissed] = useState(0);
  const [error, setError] = useState<ApiError>();

  useEffect(() => {
    const end = new AbortController();
    let count = 0;
    const onEvent = (message: PassingMessageJson | { missed: number }) => {
      if ('missed' in message) {
        setMissed((before) => before + message.missed);
        return;
      }
      count += 1;
      const next = { ...message, key: count };
      setMessages((before) => [next, ...before].slice(0, kept));
    };
    void source.followMessages(id, { onEvent, onAnswer: setError, signal: end.signal });
    return () => end.abort();
  }, [source, id]);

  return (
    <>
      <ProblemBox error={error} />
      {missed > 0 && <p class="note">{integer(missed)} came too fast to be shown.</p>}
      <Table
        caption="Messages, the latest first"
        rows={messages}
        keyOf={({ key }) => key}
        columns={columns}
        empty={error === undefined && <Empty title="None has passed yet." />}
      />
    </>
  );
}

/** Text as it is, other bytes as hexadecimal digits. */
function showPayload({ payload_base64: base64, size }: PassingMessageJson): string {
  const payload = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const more = size > payload.length ? '…' : '';
  try {
    // The end of what was cut off may be in the middle of a character.
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload, { stream: true });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this looks for.
    if (!/[\x00-\x08\x0b\x0e-\x1f]/.test(text)) return shown(text) + more;
  } catch {
    // It is no text.
  }
  return `0x${[...payload].map((byte) => byte.toString(16).padStart(2, '0')).join('')}${more}`;
}
