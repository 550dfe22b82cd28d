import { useState } from 'preact/hooks';
import type { DeviceJson } from '../../api/device.js';
import { ApiError } from './api-error.js';
import { Field, FormDialog, TimeField, textOf, timeOf } from './forms.js';
import { type Session, useSession } from './session.js';
import { pairs, shown } from './text.js';

/** What a camera reads off a device's secret: the fields that the API answers, as JSON. */
function reveal(session: Session, title: string, made: { mqtt_user: string; mqtt_password: string }): void {
  const { mqtt_user, mqtt_password } = made;
  session.reveal({
    title,
    text: 'Put user name and password into the device.',
    fields: [
      ['MQTT user name', mqtt_user],
      ['MQTT password', mqtt_password],
    ],
    code: JSON.stringify({ mqtt_user, mqtt_password }),
  });
}

/** The lines `key=value` of a field. */
function readMetadata(form: FormData): Record<string, string> {
  const lines = (textOf(form, 'metadata') ?? '').split('\n').filter((line) => line.trim() !== '');
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf('=');
      if (at < 1) {
        const detail = `The line "${line}" is not of the form key=value`;
        throw new ApiError(0, { title: 'The metadata is wrong', detail });
      }
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}

function toLocal(iso: string | null): string {
  if (iso === null) return '';
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function MetadataField({ value }: { value: string }) {
  return (
    <Field label="Metadata" hint="One key=value a line, such as site=lyon; never a secret">
      <textarea name="metadata" rows={3} spellcheck={false} defaultValue={value} />
    </Field>
  );
}

export function AddDevice({ onClose, onAdded }: { onClose(): void; onAdded(): void }) {
  const session = useSession();
  return (
    <FormDialog
      title="Add a device"
      submit="Add"
      onClose={onClose}
      onSubmit={async (form) => {
        const metadata = readMetadata(form);
        const added = await session.source.addDevice({
          type: textOf(form, 'type') ?? '',
          id: textOf(form, 'id'),
          expires_at: timeOf(form),
          metadata: Object.keys(metadata).length === 0 ? undefined : metadata,
        });
        onAdded();
        reveal(session, `Device ${added.id} is added`, added);
      }}
    >
      <div class="pair">
        <Field label="Type" hint="What kind of device it is, such as sensor">
          <input name="type" required maxLength={128} />
        </Field>
        <Field label="Id" hint="Generated when left empty">
          <input name="id" maxLength={128} spellcheck={false} autocapitalize="off" />
        </Field>
      </div>
      <MetadataField value="" />
      <TimeField label="Expires" hint="Never when left empty" />
    </FormDialog>
  );
}

interface FormProps {
  readonly device: DeviceJson;
  onClose(): void;
  onDone(): void;
}

/** The entries that differ, null for those that are gone; space around a value is no difference. */
function changesOf(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): Record<string, string | null> {
  const changed = Object.entries(after).filter(
    ([key, value]) => !Object.hasOwn(before, key) || before[key]?.trim() !== value,
  );
  const gone = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
  return Object.fromEntries([...changed, ...gone.map((key) => [key, null] as const)]);
}

export function ChangeDevice({ device: latest, ...closing }: FormProps) {
  const { source } = useSession();
  // As it was when this was opened, or what others add meanwhile would be taken for removed here.
  const [device] = useState(latest);
  return (
    <FormDialog
      title={`Change ${shown(device.id)}`}
      submit="Change"
      {...closing}
      onSubmit={async (form) => {
        const isKept = (textOf(form, 'expires') ?? '') === toLocal(device.expires_at);
        await source.setDevice(device.id, {
          metadata: changesOf(device.metadata, readMetadata(form)),
          expires_at: isKept ? undefined : (timeOf(form) ?? null),
        });
      }}
    >
      <MetadataField value={pairs(device.metadata, '\n')} />
      <TimeField label="Expires" hint="Never when left empty" value={toLocal(device.expires_at)} />
    </FormDialog>
  );
}

export function RotateDevice({ device, onClose, onDone }: FormProps) {
  const session = useSession();
  return (
    <FormDialog
      title={`Make a new secret for ${shown(device.id)}?`}
      submit="Make a new secret"
      danger
      onClose={onClose}
      onSubmit={async (form) => {
        const seconds = Number(form.get('grace'));
        const rotated = await session.source.rotateDevice(
          device.id,
          seconds === 0 ? {} : { grace_seconds: seconds, until_used: true },
        );
        onDone();
        reveal(session, `The new secret of ${rotated.id}`, rotated);
      }}
    >
      <Field
        label="The secret until now"
        hint="Ends with its connections; with a grace at the latest then, and as soon as the new one has been used"
      >
        <select name="grace">
          <option value="86400">stays valid for a day at most</option>
          <option value="604800">stays valid for a week at most</option>
          <option value="0">ends at once</option>
        </select>
      </Field>
    </FormDialog>
  );
}

export function RevokeDevice({ device, ...closing }: FormProps) {
  const { source } = useSession();
  return (
    <FormDialog
      title={`Revoke ${shown(device.id)}?`}
      submit="Revoke"
      danger
      {...closing}
      onSubmit={(form) => source.revokeDevice(device.id, textOf(form, 'reason'))}
    >
      <p>Its connections and sessions end at once, on every replica. It can be enabled again.</p>
      <Field label="Reason" hint="Kept in the audit log">
        <input name="reason" maxLength={1024} />
      </Field>
    </FormDialog>
  );
}

export function EnableDevice({ device, ...closing }: FormProps) {
  const { source } = useSession();
  return (
    <FormDialog
      title={`Enable ${shown(device.id)}?`}
      submit="Enable"
      {...closing}
      onSubmit={() => source.enableDevice(device.id)}
    >
      <p>It can connect again, with the secret that it has.</p>
    </FormDialog>
  );
}

export function RemoveDevice({ device, ...closing }: FormProps) {
  const { source } = useSession();
  return (
    <FormDialog
      title={`Remove ${shown(device.id)} for good?`}
      submit="Remove for good"
      danger
      {...closing}
      onSubmit={() => source.removeDevice(device.id)}
    >
      <p>
        Its connections end at once, and nothing brings its secret and metadata back. To keep it out and be
        able to let it in again, revoke it.
      </p>
    </FormDialog>
  );
}
