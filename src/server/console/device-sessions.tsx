import { useState } from 'preact/hooks';
import type { SessionJson, SessionPageJson } from '../../api/session.js';
import { FormDialog } from './forms.js';
import { useLoad } from './hooks.js';
import { useSession } from './session.js';
import { actionColumn, type Column, column, MoreButton, Table } from './table.js';
import { ago, integer, shown, span, time } from './text.js';
import { Badge, Empty, ProblemBox, Section } from './ui.js';

const everyMs = 5_000;

/** The sessions of a device that outlive their connections, and what waits for them. */
export function DeviceSessions({ id }: { id: string }) {
  const { source, may } = useSession();
  /** How many pages are asked for; until those of now are there, those of before are shown. */
  const [pages, setPages] = useState(1);
  const { data, error, refresh } = useLoad(id, () => readPages(pages), everyMs);
  const [ending, setEnding] = useState<SessionJson>();
  const now = source.now();

  /** So many pages in one, each time anew: sessions come and go on any of them. */
  async function readPages(count: number): Promise<SessionPageJson & { pages: number }> {
    const page = { ...(await source.sessions({ device: id })), pages: 1 };
    for (; page.pages < count && page.next_cursor !== null; page.pages += 1) {
      const next = await source.sessions({ device: id, cursor: page.next_cursor });
      page.sessions.push(...next.sessions);
      page.next_cursor = next.next_cursor;
    }
    return page;
  }

  async function showMore(shown: number): Promise<void> {
    setPages(shown + 1);
    refresh();
  }

  const endColumn = {
    ...actionColumn<SessionJson>(
      'End',
      ({ client }) => `End the session of ${client}`,
      () => true,
      setEnding,
    ),
    width: '5rem',
  };
  const columns: readonly Column<SessionJson>[] = [
    column('Client id', {}, ({ client }) => shown(client === '' ? '(empty)' : client)),
    column('Is', { width: '7.5rem' }, (session) => <State session={session} now={now} />),
    column('Pending', { width: '5rem', class: 'right' }, ({ pending }) =>
      pending === null ? '–' : `${integer(pending)}${pending === 1_000 ? '+' : ''}`,
    ),
    column('Oldest', { width: '7rem', class: 'right medium' }, ({ oldest_pending_at: at }) =>
      at === null ? '–' : ago(at, now),
    ),
    column('Subscriptions', { class: 'medium' }, ({ subscriptions }) =>
      shown(subscriptions.map(({ filter }) => filter).join('  ')),
    ),
    column('Ends', { width: '12.5rem', class: 'wide' }, ({ expires_at: at }) =>
      at === null ? '–' : time(at),
    ),
    ...(may('operator') ? [endColumn] : []),
  ];
  return (
    <Section title="Sessions">
      <ProblemBox error={error} />
      <Table
        caption="Sessions"
        rows={data?.sessions}
        keyOf={(session) => session.id}
        columns={columns}
        empty={
          <Empty title="It has no session that outlives its connection.">
            <p>A client asks for one when it connects: clean session off, or an expiry in MQTT 5.</p>
          </Empty>
        }
      />
      <MoreButton more={data?.next_cursor == null ? undefined : () => showMore(data.pages)} />
      {ending !== undefined && (
        <FormDialog
          title={`End the session of ${shown(ending.client)}?`}
          submit="End"
          danger
          onClose={() => setEnding(undefined)}
          onSubmit={() => source.endSession(ending.id)}
          onDone={refresh}
        >
          <p>
            Its subscriptions are gone, and what waits for it is not sent. Its connection ends, too, if it has
            one.
          </p>
        </FormDialog>
      )}
    </Section>
  );
}

function State({ session, now }: { session: SessionJson; now: number }) {
  if (session.problem !== null) return <Badge tone="bad">unreadable</Badge>;
  if (session.connected) return <Badge tone="good">connected</Badge>;
  return (
    <Badge tone="dim">
      {session.away_since === null ? 'away' : `away ${span(now - Date.parse(session.away_since))}`}
    </Badge>
  );
}
