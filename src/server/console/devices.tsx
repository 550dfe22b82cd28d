import { useState } from 'preact/hooks';
import type { DeviceJson } from '../../api/device.js';
import { AddDevice } from './device-forms.js';
import { Field, FilterField, textOf } from './forms.js';
import { linkTo, usePlace } from './hooks.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { type Column, column, PagedTable } from './table.js';
import { ago, pairs, shown } from './text.js';
import { Button, Command, Empty, Heading, Validity } from './ui.js';

const pageSize = 100;

/** All devices, or those that are looked for; what for stands in the address. */
export function DevicesPage() {
  const { may } = useSession();
  const [adding, setAdding] = useState(false);
  const [added, setAdded] = useState(0);
  return (
    <>
      <Heading title="Devices">
        {may('enroller') && <Button text="Add a device" class="primary" onClick={() => setAdding(true)} />}
      </Heading>
      {may('viewer') ? <DeviceList key={added} /> : <OpenDevice />}
      {adding && (
        <AddDevice onClose={() => setAdding(false)} onAdded={() => setAdded((before) => before + 1)} />
      )}
    </>
  );
}

/** For who may look at single devices only. */
function OpenDevice() {
  return (
    <form
      class="filter"
      onSubmit={(event) => {
        event.preventDefault();
        const id = textOf(new FormData(event.currentTarget), 'id');
        if (id !== undefined) location.hash = linkTo(['devices', id]);
      }}
    >
      <Field label="Id of a device that this key has added">
        <input name="id" required spellcheck={false} autocapitalize="off" />
      </Field>
      <button type="submit">Show</button>
    </form>
  );
}

function DeviceList() {
  const { source, may } = useSession();
  const { query } = usePlace();
  const filter = {
    id_prefix: query.get('id_prefix') ?? '',
    type: query.get('type') ?? '',
    metadata: query.get('metadata') ?? '',
    state: query.get('state') ?? 'active',
  };
  const go = (changes: Partial<typeof filter>) =>
    location.replace(linkTo(['devices'], { ...filter, ...changes }));
  const pages = usePages(
    JSON.stringify(filter),
    (cursor) => source.devices({ ...filter, limit: pageSize, cursor }),
    ({ devices }) => devices,
  );
  const isFiltered = filter.id_prefix + filter.type + filter.metadata !== '';
  const now = source.now();
  const columns: readonly Column<DeviceJson>[] = [
    column('Id', {}, ({ id }) => <a href={linkTo(['devices', id])}>{shown(id)}</a>),
    column('Type', { class: 'medium' }, ({ type }) => shown(type)),
    column('State', { width: '6rem' }, (device) => <Validity of={device} />),
    column('Last seen', { width: '8rem', class: 'right' }, ({ last_seen_at: seen }) =>
      seen === null ? 'never' : ago(seen, now),
    ),
    column('Metadata', { class: 'wide' }, ({ metadata }) => shown(pairs(metadata, '  '))),
  ];
  return (
    <>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <FilterField
          label="Id, or how it begins"
          value={filter.id_prefix}
          maxLength={128}
          live
          onFilter={(text) => go({ id_prefix: text })}
        />
        <FilterField
          label="Type"
          value={filter.type}
          maxLength={128}
          onFilter={(text) => go({ type: text })}
        />
        <FilterField
          label="Metadata, as key=value"
          placeholder="Metadata: key=value"
          value={filter.metadata}
          onFilter={(text) => go({ metadata: text })}
        />
        <select
          aria-label="State"
          value={filter.state}
          onChange={(event) => go({ state: event.currentTarget.value })}
        >
          <option value="active">active</option>
          <option value="expired">expired</option>
          <option value="revoked">revoked</option>
          <option value="all">all states</option>
        </select>
      </form>
      <PagedTable
        caption="Devices"
        pages={pages}
        keyOf={({ id }) => id}
        columns={columns}
        empty={
          isFiltered || filter.state !== 'active' ? (
            <Empty title={`No device is like this${filter.state === 'all' ? '' : ` and ${filter.state}`}.`} />
          ) : (
            <Empty title="There is no device yet.">
              {may('enroller') ? (
                <>
                  <p>Add one here, or by command:</p>
                  <Command text="svc-mqtt device add --type sensor" />
                </>
              ) : (
                <p>It takes a key of the role enroller, provisioner or operator to add one.</p>
              )}
            </Empty>
          )
        }
      />
    </>
  );
}
