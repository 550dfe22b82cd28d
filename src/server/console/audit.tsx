import { FilterField } from './forms.js';
import { linkTo, usePlace } from './hooks.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { PagedTable } from './table.js';
import { shown } from './text.js';
import { Button, Empty, Heading, When } from './ui.js';

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
        columns={[
          { title: 'When', width: 'var(--when)', render: ({ at }) => <When at={at} /> },
          { title: 'What', width: '9rem', render: ({ action }) => shown(action) },
          {
            title: 'To what',
            render: ({ action, target }) =>
              /^(device|connection)\./.test(action) && target !== '*' ? (
                <a href={linkTo(['devices', target])}>{shown(target)}</a>
              ) : (
                shown(target)
              ),
          },
          {
            title: 'Who',
            class: 'medium',
            render: ({ actor, actor_kind: kind }) =>
              kind === actor ? shown(actor) : `${shown(kind)} ${shown(actor)}`,
          },
          { title: 'From', width: '9rem', class: 'wide', render: ({ address }) => shown(address ?? '') },
          { title: 'Details', class: 'medium wrap', render: ({ details }) => shown(describe(details)) },
        ]}
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
