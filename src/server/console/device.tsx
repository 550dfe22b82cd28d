import { useState } from 'preact/hooks';
import type { DeviceDetailsJson } from '../../api/device.js';
import { ConnectionTable } from './connections.js';
import { DeviceCommands } from './device-commands.js';
import { ChangeDevice, EnableDevice, RemoveDevice, RevokeDevice, RotateDevice } from './device-forms.js';
import { DeviceMessages } from './device-messages.js';
import { DeviceSessions } from './device-sessions.js';
import { linkTo, useLoad } from './hooks.js';
import { SendCommand } from './send-command.js';
import { useSession } from './session.js';
import { ago, integer, shown, time } from './text.js';
import { Button, Command, Empty, Facts, Heading, ProblemBox, Section, Validity } from './ui.js';

const deviceEveryMs = 5_000;
const connectionsEveryMs = 1_000;

const secretNames = { current: 'the current one', previous: 'the one before' };

/** What is done in a dialog. */
const forms = {
  change: ChangeDevice,
  rotate: RotateDevice,
  revoke: RevokeDevice,
  enable: EnableDevice,
  remove: RemoveDevice,
};

/** One device: what is known of it, its connections, and what can be done with it. */
export function DevicePage({ id }: { id: string }) {
  const { source, may } = useSession();
  const { data, error, refresh } = useLoad(id, () => source.device(id), deviceEveryMs);
  const [open, setOpen] = useState<keyof typeof forms | 'command'>();
  /** How many commands were sent from here. */
  const [sent, setSent] = useState(0);
  const isGone = error?.status === 404;
  const Form = open === undefined || open === 'command' ? undefined : forms[open];
  const action = (name: keyof typeof forms | 'command', text: string, danger = false) => (
    <Button text={text} class={danger ? 'danger' : undefined} onClick={() => setOpen(name)} />
  );
  return (
    <>
      <Heading title={shown(id)}>
        <a href={linkTo(['devices'])}>{may('viewer') ? 'All devices' : 'Devices'}</a>
        {may('operator') && <a href={linkTo(['audit'], { device: id })}>Who changed what</a>}
        {data !== undefined && !isGone && may('operator') && (
          <>
            {data.revoked_at === null && action('command', 'Send a command')}
            {action('change', 'Change')}
            {action('rotate', 'New secret')}
            {data.revoked_at === null ? action('revoke', 'Revoke', true) : action('enable', 'Enable')}
            {action('remove', 'Remove', true)}
          </>
        )}
      </Heading>
      <ProblemBox error={error} />
      {data !== undefined && <Details device={data} />}
      {data !== undefined && !isGone && may('viewer') && (
        <div class="stack">
          <Connections id={id} />
          <DeviceSessions id={id} />
          {may('operator') && <DeviceCommands key={sent} id={id} />}
          {may('operator') && <DeviceMessages id={id} />}
        </div>
      )}
      {open === 'command' && (
        <SendCommand
          id={id}
          onClose={() => setOpen(undefined)}
          onSent={() => setSent((before) => before + 1)}
        />
      )}
      {Form !== undefined && data !== undefined && (
        <Form device={data} onClose={() => setOpen(undefined)} onDone={refresh} />
      )}
    </>
  );
}

function Details({ device }: { device: DeviceDetailsJson }) {
  const now = useSession().source.now();
  const { last_seen_at: seen, expires_at: expires, revoked_at: revoked, last_secret_used: used } = device;
  const { previous_secret_until: until, previous_secret_until_used: untilUsed, metadata } = device;
  return (
    <div class="halves">
      <Facts
        facts={[
          ['state', <Validity key="state" of={device} />],
          ['type', shown(device.type)],
          ['last seen', seen === null ? 'never' : `${ago(seen, now)}, ${time(seen)}`],
          ['added', time(device.created_at)],
          ['revoked', revoked && time(revoked)],
          ['expires', expires === null ? 'never' : time(expires)],
          ['secret in use', used === null ? 'none since it was made' : secretNames[used]],
          [
            secretNames.previous,
            until && `valid until ${time(until)}${untilUsed ? ', or the new one is used' : ''}`,
          ],
        ]}
      />
      <Section title="Messages">
        <Ledger ledger={device.ledger} />
      </Section>
      <Section title="Metadata">
        {Object.keys(metadata).length === 0 ? (
          <Empty title="Nothing is noted about it." />
        ) : (
          <Facts facts={Object.entries(metadata).map(([key, value]) => [shown(key), shown(value)])} />
        )}
      </Section>
    </div>
  );
}

function Ledger({ ledger }: Pick<DeviceDetailsJson, 'ledger'>) {
  if (ledger === null) return <Empty title="Nothing has come of it yet." />;
  const { last_refused_at: at, last_refused_reason: reason, last_stream: stream } = ledger;
  const last = at === null ? '' : `, the last ${time(at)}: ${shown(reason ?? '')}`;
  return (
    <Facts
      facts={[
        ['first seen', time(ledger.first_seen_at)],
        ['received', integer(ledger.received)],
        ['stored', integer(ledger.stored)],
        ['refused', `${integer(ledger.refused)}${last}`],
        ['delivered to it', integer(ledger.delivered)],
        ['latest in', stream === null ? '–' : `${shown(stream)}, ${integer(ledger.last_sequence ?? 0)}`],
        ['last address', shown(ledger.last_address ?? '–')],
      ]}
    />
  );
}

function Connections({ id }: { id: string }) {
  const { source } = useSession();
  const asked = { device: id, sort: 'client', order: 'asc' };
  const { data, error } = useLoad(id, () => source.connections(asked), connectionsEveryMs);
  return (
    <Section title="Connections">
      <ProblemBox error={error} />
      {data !== undefined && (
        <ConnectionTable
          rows={data.connections}
          at={data.at}
          link="client"
          empty={
            <Empty title="It is not connected.">
              <p>With its password it publishes by:</p>
              <Command
                text={`mosquitto_pub -h ${location.hostname} -u ${shown(id)} -P PASSWORD -q 1 -t raw/${shown(id)} -m hello`}
              />
            </Empty>
          }
        />
      )}
      {data !== undefined && data.matching > data.connections.length && (
        <p class="note">
          {integer(data.connections.length)} of {integer(data.matching)}:{' '}
          <a href={linkTo(['connections'], { q: id })}>look among all connections</a>
        </p>
      )}
    </Section>
  );
}
