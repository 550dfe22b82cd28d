import { linkTo, usePlace } from './hooks.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { shown } from './text.js';
import { Empty, FilterField, Heading, MoreButton, ProblemBox, Table, When } from './ui.js';

/** Who changed what. */
export function AuditPage() {
  const { source } = useSession();
  const { query } = usePlace();
  const device = query.get('device') ?? '';
  const { rows, error, more, refresh } = usePages(
    device,
    (cursor) => source.audit({ device, cursor }),
    ({ entries }) => entries,
  );
  return (
    <>
      <Heading title="Audit">
        <button type="button" onClick={refresh}>
          Ask again
        </button>
      </Heading>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <FilterField
          label="Id of a device"
          value={device}
          onFilter={(text) => location.replace(linkTo(['audit'], { device: text }))}
        />
      </form>
      <ProblemBox error={error} />
      {rows?.length === 0 && (
        <Empty
          title={
            device === '' ? 'Nothing was changed yet.' : 'Nothing was done to this device, or no longer kept.'
          }
        />
      )}
      {rows !== undefined && rows.length > 0 && (
        <Table
          caption="Changes, the latest first"
          rows={rows}
          keyOf={({ id }) => id}
          columns={[
            { key: 'at', title: 'When', width: 'var(--when)', render: ({ at }) => <When at={at} /> },
            { key: 'action', title: 'What', width: '9rem', render: ({ action }) => shown(action) },
            {
              key: 'target',
              title: 'To what',
              render: ({ action, target }) =>
                /^(device|connection)\./.test(action) && target !== '*' ? (
                  <a href={linkTo(['devices', target])}>{shown(target)}</a>
                ) : (
                  shown(target)
                ),
            },
            {
              key: 'actor',
              title: 'Who',
              from: 'medium',
              render: ({ actor, actor_kind: kind }) =>
                kind === actor ? shown(actor) : `${shown(kind)} ${shown(actor)}`,
            },
            {
              key: 'address',
              title: 'From',
              width: '9rem',
              from: 'wide',
              render: ({ address }) => shown(address ?? ''),
            },
            {
              key: 'details',
              title: 'Details',
              from: 'medium',
              wrap: true,
              render: ({ details }) =>
                shown(
                  Object.entries(details)
                    .map(
                      ([key, value]) =>
                        `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
                    )
                    .join(', '),
                ),
            },
          ]}
        />
      )}
      <MoreButton more={more} />
    </>
  );
}
