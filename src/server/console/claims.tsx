import { useState } from 'preact/hooks';
import type { ClaimJson } from '../../api/claim.js';
import { Field, FormDialog, TimeField, textOf, timeOf } from './forms.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { actionColumn, type Column, column, PagedTable } from './table.js';
import { integer, shown, time } from './text.js';
import { Badge, Button, Command, Empty, Heading } from './ui.js';

const tones = { active: 'good', spent: 'dim', expired: 'warn', revoked: 'bad' } as const;

/** By which devices get their credentials themselves. */
export function ClaimsPage() {
  const session = useSession();
  const { source, may } = session;
  const [state, setState] = useState('active');
  const pages = usePages(
    state,
    (cursor) => source.claims({ state, cursor }),
    ({ claims }) => claims,
  );
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<ClaimJson>();
  const columns: readonly Column<ClaimJson>[] = [
    column('Id', { class: 'medium' }, ({ id }) => id),
    column('Type', {}, ({ type }) => shown(type)),
    column('State', { width: '6rem' }, ({ state }) => <Badge tone={tones[state]}>{state}</Badge>),
    column(
      'Left',
      { width: '6rem', class: 'right' },
      ({ uses, uses_left: left }) => `${integer(left)}/${integer(uses)}`,
    ),
    column('Ends', { width: '12rem', class: 'medium' }, ({ expires_at: at }) => time(at)),
    actionColumn<ClaimJson>(
      'Revoke',
      ({ id }) => `Revoke claim ${id}`,
      ({ state }) => may('operator') && state === 'active',
      setRevoking,
    ),
  ];
  return (
    <>
      <Heading title="Claims">
        {may('operator') && <Button text="Make a claim" class="primary" onClick={() => setMaking(true)} />}
        <select aria-label="State" value={state} onChange={(event) => setState(event.currentTarget.value)}>
          <option value="active">active</option>
          <option value="all">all states</option>
        </select>
      </Heading>
      <PagedTable
        caption="Claims"
        pages={pages}
        keyOf={({ id }) => id}
        columns={columns}
        empty={
          <Empty title={state === 'active' ? 'No claim is active.' : 'No claim was ever made.'}>
            <p>A claim lets a number of devices get their own credentials, each once. Here, or by command:</p>
            <Command text="svc-mqtt claim create --type sensor --uses 100 --expires 7d" />
          </Empty>
        }
      />
      {making && (
        <FormDialog
          title="Make a claim"
          submit="Make"
          onClose={() => setMaking(false)}
          onSubmit={async (form) => {
            const made = await source.createClaim({
              type: textOf(form, 'type') ?? '',
              uses: Number(textOf(form, 'uses') ?? 1),
              expires_at: timeOf(form),
            });
            pages.refresh();
            session.reveal({
              title: `A claim for ${integer(made.uses)} of type ${shown(made.type)}`,
              text: `Devices show it to POST /claims/redeem until ${time(made.expires_at)}.`,
              fields: [['Claim', made.claim]],
              code: made.claim,
            });
          }}
        >
          <Field label="Type of the devices">
            <input name="type" required maxLength={128} />
          </Field>
          <div class="pair">
            <Field label="How many devices">
              <input name="uses" type="number" min={1} defaultValue="1" required />
            </Field>
            <TimeField label="Ends" hint="In a day when left empty" />
          </div>
        </FormDialog>
      )}
      {revoking !== undefined && (
        <FormDialog
          title={`Revoke claim ${revoking.id}?`}
          submit="Revoke"
          danger
          onClose={() => setRevoking(undefined)}
          onSubmit={() => source.revokeClaim(revoking.id)}
          onDone={pages.refresh}
        >
          <p>It makes no further device of type {shown(revoking.type)}. Those that it has made stay.</p>
        </FormDialog>
      )}
    </>
  );
}
