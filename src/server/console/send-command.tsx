import { useState } from 'preact/hooks';
import type { CommandJson, CommandRequestJson } from '../../api/command.js';
import { maxAnswerWithinSec, maxCommandBytes, maxCommandTopicLength } from '../../api/constants.js';
import { readDurationMs } from '../../duration.js';
import { ApiError } from './api-error.js';
import { CommandState } from './device-commands.js';
import { Field, FormDialog, textOf } from './forms.js';
import { useLoad } from './hooks.js';
import { useSession } from './session.js';
import { bytes, integer, shown } from './text.js';
import { Command } from './ui.js';

/** Sends a command to a device, or asks it, and shows what came of it. */
export function SendCommand({ id, onClose, onSent }: { id: string; onClose(): void; onSent(): void }) {
  const { source } = useSession();
  const [how, setHow] = useState('keep');
  const [sent, setSent] = useState<CommandJson>();
  const asks = how !== 'keep';
  return (
    <FormDialog
      title={`Send a command to ${shown(id)}`}
      submit={asks ? 'Ask' : 'Send'}
      stays
      onClose={onClose}
      onSubmit={async (form) => {
        setSent(undefined);
        setSent(await source.sendCommand(id, await readCommand(form)));
      }}
      onDone={onSent}
    >
      <Field label="Topic" hint={`What follows cmd/${shown(id)}/${asks ? 'call/' : ''}, such as fan/speed`}>
        <input
          name="topic"
          required
          maxLength={maxCommandTopicLength}
          spellcheck={false}
          autocapitalize="off"
        />
      </Field>
      <Field label="Payload">
        <textarea name="payload" rows={3} spellcheck={false} />
      </Field>
      <Field label="Or a file" hint={`At most ${bytes(maxCommandBytes)}`}>
        <input name="file" type="file" />
      </Field>
      <div class="pair">
        <Field label="How">
          <select name="how" value={how} onChange={(event) => setHow(event.currentTarget.value)}>
            <option value="keep">keep it until the device has it</option>
            <option value="reply">ask, and show the answer</option>
            <option value="ack">ask for its acknowledgement</option>
          </select>
        </Field>
        <Field label="QoS, at most">
          <select name="qos">
            <option value="1">1: it is acknowledged</option>
            <option value="0">0: it is not</option>
          </select>
        </Field>
        {asks ? (
          <Field label="Answer within, seconds" hint="The device has to be connected">
            <input
              name="within"
              type="number"
              min={0.1}
              max={maxAnswerWithinSec}
              step="any"
              defaultValue="5"
              required
            />
          </Field>
        ) : (
          <Field label="Expires after" hint="Such as 30s, 10m, 2h, 1d; never when left empty">
            <input name="expires" spellcheck={false} />
          </Field>
        )}
      </div>
      <div role="status">{sent !== undefined && <Outcome id={id} sent={sent} />}</div>
    </FormDialog>
  );
}

function Outcome({ id, sent: { topic, stored, answer } }: { id: string; sent: CommandJson }) {
  if (answer?.by === 'ack') return <p>The device has acknowledged it.</p>;
  if (answer !== null) {
    const { payload, payload_base64: base64 } = answer;
    return (
      <>
        <p>The device answers{payload === null ? ', in base64' : payload === '' ? ' with nothing.' : ''}</p>
        {payload !== '' && <Command text={shown(payload ?? base64)} />}
      </>
    );
  }
  if (stored === null)
    return <p>Sent on {shown(topic)} to the clients that are connected; it is not kept for others.</p>;
  return (
    <>
      <p>
        Stored as {shown(stored.stream)} {integer(stored.sequence)}, on {shown(topic)}.
      </p>
      <Progress key={stored.sequence} id={id} sequence={stored.sequence} />
    </>
  );
}

const progressEveryMs = 1_000;

/** How far a command is, for as long as one looks. */
function Progress({ id, sequence }: { id: string; sequence: number }) {
  const { source } = useSession();
  const { data } = useLoad(`${id} ${sequence}`, () => source.command(id, sequence), progressEveryMs);
  return data === undefined ? null : (
    <p>
      <CommandState state={data.state} />
    </p>
  );
}

async function readCommand(form: FormData): Promise<CommandRequestJson> {
  const topic = textOf(form, 'topic') ?? '';
  const qos = form.get('qos') === '0' ? 0 : 1;
  const request = { topic, qos, ...(await readPayload(form)) } as const;
  const how = form.get('how');
  if (how !== 'keep')
    return { ...request, wait_seconds: Number(form.get('within')), ...(how === 'ack' ? { ack: true } : {}) };
  const expires = textOf(form, 'expires');
  if (expires === undefined) return request;
  const ms = readDurationMs(expires);
  if (ms === undefined || ms <= 0)
    throw fault(`"${expires}" is no time: it takes a number and s, m, h or d, such as 2h`);
  return { ...request, expires_in_seconds: Math.ceil(ms / 1_000) };
}

async function readPayload(form: FormData): Promise<Pick<CommandRequestJson, 'payload' | 'payload_base64'>> {
  const text = String(form.get('payload') ?? '');
  const file = form.get('file');
  if (!(file instanceof File) || file.size + file.name.length === 0) return { payload: text };
  if (text !== '') throw fault('There is a payload and a file: leave one of the two out');
  if (file.size > maxCommandBytes)
    throw fault(`The file has ${bytes(file.size)}, and a command takes at most ${bytes(maxCommandBytes)}`);
  const data = new Uint8Array(await file.arrayBuffer());
  return { payload_base64: btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join('')) };
}

function fault(detail: string): ApiError {
  return new ApiError(0, { title: 'It was not sent', detail });
}
