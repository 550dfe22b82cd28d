import { useState } from 'preact/hooks';
import type { ConnectionDetailsJson } from '../../api/connection.js';
import { FormDialog } from './forms.js';
import { linkTo, useLoad } from './hooks.js';
import { useSession } from './session.js';
import { ago, brief, bytes, integer, shown, span } from './text.js';
import { Button, Empty, Facts, Heading, ProblemBox, Section } from './ui.js';

const everyMs = 1_000;

/** One connection, as it is. */
export function ConnectionPage({ id }: { id: string }) {
  const { source, may } = useSession();
  const { data, error } = useLoad(id, () => source.connection(id), everyMs);
  const [kicking, setKicking] = useState(false);
  const isOver = error?.status === 404;
  const title = data === undefined ? 'Connection' : shown(data.device);
  return (
    <>
      <Heading title={title}>
        <a href={linkTo(['connections'])}>All connections</a>
        {data !== undefined && <a href={linkTo(['devices', data.device])}>The device</a>}
        {data !== undefined && !isOver && may('operator') && (
          <Button text="Kick" class="danger" onClick={() => setKicking(true)} />
        )}
      </Heading>
      {isOver ? (
        <Empty title="This connection has ended.">
          {data !== undefined && (
            <p>
              <a href={linkTo(['connections'], { q: data.device })}>Connections of the device</a>
            </p>
          )}
        </Empty>
      ) : (
        <ProblemBox error={error} />
      )}
      {data !== undefined && <Details found={data} />}
      {kicking && data !== undefined && (
        <FormDialog
          title={`Kick ${shown(data.client)} of ${shown(data.device)}?`}
          submit="Kick"
          danger
          onClose={() => setKicking(false)}
          onSubmit={() => source.kick(id)}
        >
          <p>The connection ends. The client may connect again at once: to keep the device out, revoke it.</p>
        </FormDialog>
      )}
    </>
  );
}

function Details({ found }: { found: ConnectionDetailsJson }) {
  const now = Date.parse(found.at);
  const { received, outgoing, will, waits, last_error: fault } = found;
  const seconds = found.session_expiry_seconds;
  const session = !found.persistent_session
    ? 'ends with the connection'
    : seconds === null
      ? 'kept without end'
      : `kept for ${span(seconds * 1_000)}`;
  return (
    <>
      {waits !== null && (
        <p class="trouble">
          Its messages wait for {span(now - Date.parse(waits.since))}: {shown(waits.subject ?? '')}{' '}
          {shown(waits.detail)} ({waits.cause}).
        </p>
      )}
      {found.held && <p class="trouble">It is not read at the moment: a bound is reached.</p>}
      <div class="halves">
        <Facts
          facts={[
            ['client id', shown(found.client)],
            ['type', shown(found.type)],
            ['address', shown(found.address)],
            ['replica', shown(found.replica)],
            ['by', `${found.transport}, MQTT ${found.protocol}`],
            ['connected', ago(found.connected_at, now)],
            ['session', session],
            ['keep alive', found.keepalive_seconds === 0 ? 'none' : `${found.keepalive_seconds} s`],
            [
              'will',
              will === null
                ? 'none'
                : `${shown(will.topic)}, QoS ${will.qos}${will.retain ? ', retained' : ''}`,
            ],
          ]}
        />
        <Facts
          facts={[
            ['messages/s', found.rate === null ? '…' : brief(found.rate)],
            [
              'received',
              `QoS 0: ${integer(received.qos0)}, 1: ${integer(received.qos1)}, 2: ${integer(received.qos2)}`,
            ],
            ['last message', found.last_message_at === null ? 'none' : ago(found.last_message_at, now)],
            ['wait to be stored', integer(found.in_flight)],
            ['wait to be sent', `${integer(outgoing.waiting)} (${bytes(outgoing.waiting_bytes)})`],
            ['unacknowledged', integer(outgoing.unacknowledged)],
            ['dropped', integer(outgoing.dropped)],
            ['bytes', `${bytes(found.bytes_in)} in, ${bytes(found.bytes_out)} out`],
            ['last error', fault === null ? 'none' : `${ago(fault.at, now)}: ${shown(fault.detail)}`],
          ]}
        />
        <Section title="Subscriptions">
          {found.subscribed_to.length === 0 ? (
            <Empty title="None." />
          ) : (
            <Facts facts={found.subscribed_to.map(({ filter, qos }) => [shown(filter), `QoS ${qos}`])} />
          )}
        </Section>
        <Section title="Latest topics">
          {found.last_topics.length === 0 ? (
            <Empty title="It has published nothing." />
          ) : (
            <ul class="plain">
              {found.last_topics.map((topic) => (
                <li key={topic}>
                  <code>{shown(topic)}</code>
                </li>
              ))}
            </ul>
          )}
        </Section>
      </div>
    </>
  );
}
