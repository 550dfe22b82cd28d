import type { CommandProgressJson } from '../../api/command.js';
import { ApiError } from './api-error.js';
import { useLoad } from './hooks.js';
import { useSession } from './session.js';
import { Table } from './table.js';
import { bytes, shown } from './text.js';
import { Badge, Empty, ProblemBox, Section, type Tone, When } from './ui.js';

type State = CommandProgressJson['state'] | 'gone' | 'asked';

/** How far a command is, in words that stand alone. */
const meanings: Readonly<Record<State, readonly [Tone, string]>> = {
  acknowledged: ['good', 'acknowledged'],
  sent: ['dim', 'sent, not acknowledged'],
  queued: ['warn', 'waits for the device'],
  unknown: ['dim', 'cannot be told'],
  refused: ['bad', 'refused by the client'],
  expired: ['bad', 'expired'],
  unclaimed: ['bad', 'no session takes it'],
  gone: ['dim', 'no longer stored'],
  asked: ['dim', 'asked, not kept'],
};

export function CommandState({ state }: { state: State }) {
  const [tone, text] = meanings[state];
  return <Badge tone={tone}>{text}</Badge>;
}

const everyMs = 5_000;
const shownCommands = 5;
/** Entries of the audit log that are looked through for them. */
const lookedThrough = 50;

/** The latest commands that were sent to a device through the API, and how far each is. */
export function DeviceCommands({ id }: { id: string }) {
  const { source } = useSession();
  const { data, error } = useLoad(
    id,
    async () => {
      const { entries } = await source.audit({ device: id, limit: lookedThrough });
      const sent = entries.filter(({ action }) => action === 'device.command').slice(0, shownCommands);
      return Promise.all(
        sent.map(async (entry) => ({ ...entry, state: await stateOf(entry.details.sequence) })),
      );
    },
    everyMs,
  );

  async function stateOf(sequence: unknown): Promise<State> {
    // What was not kept, such as a question, has none.
    if (typeof sequence !== 'number') return 'asked';
    return source.command(id, sequence).then(
      ({ state }) => state,
      (failure: unknown) => {
        if (failure instanceof ApiError && [404, 410].includes(failure.status)) return 'gone';
        throw failure;
      },
    );
  }

  return (
    <Section title="Latest commands">
      <ProblemBox error={error} />
      <Table
        caption="Latest commands"
        rows={data}
        keyOf={({ id: entry }) => entry}
        columns={[
          { title: 'When', width: 'var(--when)', render: ({ at }) => <When at={at} /> },
          { title: 'Topic', render: ({ details }) => shown(String(details.topic)) },
          {
            title: 'Payload',
            width: '6rem',
            class: 'right medium',
            render: ({ details }) => bytes(Number(details.bytes)),
          },
          { title: 'Is', width: '13rem', render: ({ state }) => <CommandState state={state} /> },
          { title: 'Who', class: 'medium', render: ({ actor }) => shown(actor) },
        ]}
        empty={<Empty title="None was sent to it through the API lately." />}
      />
    </Section>
  );
}
