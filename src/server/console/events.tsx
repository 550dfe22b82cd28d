import { useEffect, useState } from 'preact/hooks';
import { eventKinds } from '../../api/constants.js';
import type { EventJson } from '../../api/event.js';
import type { ApiError } from './api-error.js';
import { EventTable, eventKey } from './event-table.js';
import { FilterField } from './forms.js';
import { linkTo, usePlace } from './hooks.js';
import { ReplicaChoice } from './replicas.js';
import { useSession } from './session.js';
import { useStats } from './stats.js';
import { integer } from './text.js';
import { Button, Empty, Heading, ProblemBox } from './ui.js';

/** Most events that are kept; of more, the oldest go. */
const kept = 500;
/** Events of a storm are drawn so often. */
const drawEveryMs = 250;

/** What happens, as it happens. */
export function EventsPage() {
  const { source } = useSession();
  const { data: fleet } = useStats();
  const { query } = usePlace();
  const [kind, device] = [query.get('kind') ?? '', query.get('device') ?? ''];
  const replica = query.get('replica') ?? '';
  const [events, setEvents] = useState<readonly EventJson[]>([]);
  const [missed, setMissed] = useState(0);
  /** Why they do not come. */
  const [error, setError] = useState<ApiError>();
  /** What is shown while one reads, whatever comes. */
  const [held, setHeld] = useState<readonly EventJson[]>();
  const go = (changes: { kind?: string; device?: string; replica?: string }) =>
    location.replace(linkTo(['events'], { kind, device, replica, ...changes }));

  useEffect(() => {
    const end = new AbortController();
    let waiting: EventJson[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      const latest = waiting.reverse();
      waiting = [];
      setEvents((before) => [...latest, ...before].slice(0, kept));
    };
    const onEvent = (event: EventJson | { missed: number }) => {
      if ('missed' in event) {
        setMissed((before) => before + event.missed);
        return;
      }
      waiting.push(event);
      if (waiting.length > kept) waiting = waiting.slice(-kept);
      timer ??= setTimeout(draw, drawEveryMs);
    };
    void source.follow({ kind, device, replica }, { onEvent, onAnswer: setError, signal: end.signal });
    return () => {
      end.abort();
      clearTimeout(timer);
    };
  }, [source, kind, device, replica]);

  // Before the first one comes there are those of a moment ago.
  const isWanted = (event: EventJson) =>
    (kind === '' || event.kind === kind) &&
    (device === '' || event.device === device) &&
    (replica === '' || event.replica === replica);
  const known = new Set(events.map(eventKey));
  const before = (fleet?.total.recent_events ?? []).filter((event) => !known.has(eventKey(event)));
  const all = [...events, ...before]
    .filter(isWanted)
    .sort((one, other) => Date.parse(other.at) - Date.parse(one.at));
  const list = held === undefined ? all : held.filter(isWanted);
  return (
    <>
      <Heading title="Events">
        <Button
          text="Pause"
          pressed={held !== undefined}
          onClick={() => setHeld(held === undefined ? all : undefined)}
        />
        {missed > 0 && <span class="note">{integer(missed)} were missed</span>}
      </Heading>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <FilterField label="Id of a device" value={device} onFilter={(text) => go({ device: text })} />
        <select aria-label="Kind" value={kind} onChange={(event) => go({ kind: event.currentTarget.value })}>
          <option value="">all kinds</option>
          {eventKinds.map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
        <ReplicaChoice chosen={replica} onChoose={(chosen) => go({ replica: chosen })} />
      </form>
      <ProblemBox error={error} />
      <EventTable
        events={list}
        replicas={(fleet?.replicas.length ?? 0) > 1}
        empty={
          error === undefined && (
            <Empty title="Nothing has happened since this page was opened.">
              <p>Connections, refusals and revocations are shown here as they come.</p>
            </Empty>
          )
        }
      />
    </>
  );
}
