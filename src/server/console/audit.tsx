import type { AuditJson } from '../../api/audit-entry.js';
import { FilterField } from './forms.js';
import { linkTo, usePlace } from './hooks.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { type Column, column, PagedTable } from './table.js';
import { shown } from './text.js';
import { Button, Empty, Heading, When } from './ui.js';

const columns: readonly Column<AuditJson>[] = [
  column('When', { width: 'var(--when)' }, ({ at }) => <When at={at} />),
  column('What', { width: '9rem' }, ({ action }) => shown(action)),
  column('To what', {}, ({ action, target }) =>
    /^(device|connection|session)\./.test(action) && target !== '*' ? (
      <a href={linkTo(['devices', target])}>{shown(target)}</a>
    ) : (
      shown(target)
    ),
  ),
  column('Who', { class: 'medium' }, ({ actor, actor_kind: kind }) =>
    kind === actor ? shown(actor) : `${shown(kind)} ${shown(actor)}`,
  ),
  column('From', { width: '9rem', class: 'wide' }, ({ address }) => shown(address ?? '')),
  column('Details', { class: 'medium wrap' }, ({ details }) => shown(describe(details))),
];

/** Who changed what. */
export function AuditPage() {
  const { source } = useSession();
  const { query } = usePlace();
  const device = query.get('device') ?? '';
  const pages = usePages(
    device,
    (cursor) => source.audit({ device, cursor }),
    ({ entries }) => entries,
  );
  return (
    <>
      <Heading title="Audit">
        <Button text="Ask again" onClick={pages.refresh} />
      </Heading>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <FilterField
          label="Id of a device"
          value={device}
          onFilter={(text) => location.replace(linkTo(['audit'], { device: text }))}
        />
      </form>
      <PagedTable
        caption="Changes, the latest first"
        pages={pages}
        keyOf={({ id }) => id}
        columns={columns}
        empty={
          <Empty
            title={
              device === ''
                ? 'Nothing was changed yet.'
                : 'Nothing was done to this device, or no longer kept.'
            }
          />
        }
      />
    </>
  );
}

const describe = (details: object): string =>
  Object.entries(details)
    .map(([key, value]) => `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ');
