import { useState } from 'preact/hooks';
import type { ApiKeyJson } from '../../api/api-key.js';
import { Field, FormDialog, TimeField, textOf, timeOf } from './forms.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { actionColumn, type Column, column, PagedTable } from './table.js';
import { ago, shown, time } from './text.js';
import { Button, Command, Empty, Heading, Validity } from './ui.js';

/** Who may use the API, and with it the console. */
export function KeysPage() {
  const { source, me } = useSession();
  const [state, setState] = useState('active');
  const pages = usePages(
    state,
    (cursor) => source.keys({ state, cursor }),
    (page) => page.api_keys,
  );
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<ApiKeyJson>();
  const now = source.now();
  const columns: readonly Column<ApiKeyJson>[] = [
    column('Name', {}, ({ name }) => shown(name)),
    column('Role', { width: '7rem' }, ({ role }) => role),
    column('State', { width: '6rem', class: 'medium' }, (key) => <Validity of={key} />),
    column('Last used', { width: '8rem', class: 'right medium' }, ({ last_used_at: used }) =>
      used === null ? 'never' : ago(used, now),
    ),
    column('Expires', { width: '12rem', class: 'medium' }, ({ expires_at: at }) =>
      at === null ? 'never' : time(at),
    ),
    actionColumn<ApiKeyJson>(
      'Revoke',
      ({ name }) => `Revoke ${name}`,
      ({ revoked_at: at }) => at === null,
      setRevoking,
    ),
  ];
  return (
    <>
      <Heading title="Keys">
        <Button text="Make a key" class="primary" onClick={() => setMaking(true)} />
        <select aria-label="State" value={state} onChange={(event) => setState(event.currentTarget.value)}>
          <option value="active">active</option>
          <option value="all">all states</option>
        </select>
      </Heading>
      <PagedTable
        caption="API keys"
        pages={pages}
        keyOf={({ id }) => id}
        columns={columns}
        empty={
          <Empty title="There is no key.">
            <p>
              {me.kind === 'local' &&
                'The API answers without one. From the first one on it asks everybody for one. '}
              Here, or by command:
            </p>
            <Command text="svc-mqtt api-key create --name ci --role provisioner --expires 90d" />
          </Empty>
        }
      />
      {making && <MakeKey onClose={() => setMaking(false)} onMade={pages.refresh} />}
      {revoking !== undefined && (
        <FormDialog
          title={`Revoke the key ${shown(revoking.name)}?`}
          submit="Revoke"
          danger
          onClose={() => setRevoking(undefined)}
          onSubmit={() => source.revokeKey(revoking.id)}
          onDone={pages.refresh}
        >
          <p>
            Within a second it is refused everywhere, for good.
            {me.kind === 'api-key' && me.name === revoking.name
              ? ' It is the one that you are logged in with.'
              : ''}
          </p>
        </FormDialog>
      )}
    </>
  );
}

function MakeKey({ onClose, onMade }: { onClose(): void; onMade(): void }) {
  const session = useSession();
  const isFirst = session.me.kind === 'local';
  return (
    <FormDialog
      title="Make a key"
      submit="Make"
      onClose={onClose}
      onSubmit={async (form) => {
        const made = await session.source.createKey({
          name: textOf(form, 'name') ?? '',
          role: textOf(form, 'role'),
          expires_at: timeOf(form),
        });
        session.reveal({
          title: `The key ${made.name}, of role ${made.role}`,
          text: isFirst
            ? 'From now on the API asks everybody for a key. The console goes on with this one.'
            : 'Send it as the header "Authorization: Bearer <key>".',
          fields: [['Key', made.key]],
        });
        if (isFirst) session.logIn(made.key);
        else onMade();
      }}
    >
      {isFirst && (
        <p>
          <strong>It is the first key:</strong> from then on the API asks everybody for one, this machine too.
          Make that of an operator first.
        </p>
      )}
      <div class="pair">
        <Field label="Name">
          <input name="name" required maxLength={64} spellcheck={false} autocapitalize="off" />
        </Field>
        <Field label="Role">
          <select name="role">
            <option value="operator">operator: everything</option>
            <option value="provisioner">provisioner: look, add devices</option>
            <option value="viewer">viewer: look</option>
            <option value="enroller">enroller: add devices</option>
          </select>
        </Field>
      </div>
      <TimeField label="Expires" hint="Never when left empty" />
    </FormDialog>
  );
}
