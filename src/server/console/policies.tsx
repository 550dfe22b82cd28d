import { useState } from 'preact/hooks';
import { ackLevels } from '../../ack-level.js';
import type { PolicyJson } from '../../api/policy.js';
import { defaultTemplates } from '../../topic-template.js';
import { ApiError, asApiError } from './api-error.js';
import { Field, FormDialog, textOf } from './forms.js';
import { usePages } from './pages.js';
import { useSession } from './session.js';
import { MoreButton } from './table.js';
import { bytes, integer, shown, time } from './text.js';
import { Button, Command, Empty, type Fact, Facts, Heading, ProblemBox } from './ui.js';

/** What devices of each type may do. */
export function PoliciesPage() {
  const { source, may } = useSession();
  const { rows, error, more, refresh } = usePages(
    'policies',
    (cursor) => source.policies({ cursor }),
    ({ policies }) => policies,
  );
  const [setting, setSetting] = useState<PolicyJson | 'new'>();
  const [removing, setRemoving] = useState<PolicyJson>();
  const [warnings, setWarnings] = useState<readonly string[]>([]);
  const acts = may('operator');
  return (
    <>
      <Heading title="Policies">
        {acts && <Button text="Set a policy" class="primary" onClick={() => setSetting('new')} />}
        <span class="note">A type without one has the default: its own topics.</span>
      </Heading>
      <ProblemBox error={error} />
      {warnings.map((text) => (
        <p key={text} class="trouble" role="status">
          {shown(text)}
        </p>
      ))}
      {rows?.length === 0 && (
        <Empty title="No type has a policy of its own.">
          <p>By default a device publishes to raw/ID/# and subscribes to cmd/ID/#. To say otherwise:</p>
          <Command text="svc-mqtt policy set sensor --publish 'raw/{id}/#' --publish-rate 10" />
        </Empty>
      )}
      {rows?.map((policy) => (
        <section key={policy.type} class="policy" aria-label={`Policy of ${policy.type}`}>
          <div class="heading">
            <h2>{shown(policy.type)}</h2>
            <div class="actions">
              {acts && (
                <>
                  <Button text="Change" label={`Change ${policy.type}`} onClick={() => setSetting(policy)} />
                  <Button
                    text="Remove"
                    label={`Remove ${policy.type}`}
                    class="danger"
                    onClick={() => setRemoving(policy)}
                  />
                </>
              )}
            </div>
          </div>
          <Facts
            facts={[
              ['publishes to', <Topics key="publish" topics={policy.publish} />],
              ['subscribes to', <Topics key="subscribe" topics={policy.subscribe} />],
              ...describeLimits(policy),
              ['set', time(policy.updated_at)],
            ]}
          />
        </section>
      ))}
      <MoreButton more={more} />
      {setting !== undefined && (
        <SetPolicy
          policy={setting === 'new' ? undefined : setting}
          onClose={() => setSetting(undefined)}
          onSet={(told) => {
            setWarnings(told);
            refresh();
          }}
        />
      )}
      {removing !== undefined && (
        <FormDialog
          title={`Remove the policy of ${shown(removing.type)}?`}
          submit="Remove"
          danger
          onClose={() => setRemoving(undefined)}
          onSubmit={() => source.removePolicy(removing.type)}
          onDone={() => {
            setWarnings([]);
            refresh();
          }}
        >
          <p>Devices of the type have the default again, within a second, connected ones too.</p>
        </FormDialog>
      )}
    </>
  );
}

function Topics({ topics }: { topics: readonly string[] }) {
  if (topics.length === 0) return <>nothing</>;
  return (
    <>
      {topics.map((topic) => (
        <div key={topic}>
          <code>{shown(topic)}</code>
        </div>
      ))}
    </>
  );
}

/** What differs from the server's settings. */
function describeLimits(policy: PolicyJson): readonly Fact[] {
  const { publish_rate: rate, max_packet_bytes: most, receipts } = policy;
  return [
    ['messages a second', rate && integer(rate)],
    ['largest packet', most && bytes(most)],
    ['NATS subject', policy.nats_subject && shown(policy.nats_subject)],
    ['acknowledged is', policy.ack_level],
    ['on a refusal', policy.on_refusal],
    ['receipts', receipts === null ? null : toYesNo(receipts)],
  ];
}

const toYesNo = (is: boolean): string => (is ? 'yes' : 'no');

const linesOf = (form: FormData, name: string): string[] =>
  (textOf(form, name) ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

function numberOf(form: FormData, name: string): number | undefined {
  const text = textOf(form, name);
  return text === undefined ? undefined : Number(text);
}

function SetPolicy(props: {
  policy: PolicyJson | undefined;
  onClose(): void;
  onSet(warnings: readonly string[]): void;
}) {
  const { policy, onClose, onSet } = props;
  const { source } = useSession();
  const receipts = policy?.receipts == null ? '' : toYesNo(policy.receipts);

  async function has(type: string): Promise<boolean> {
    return source.policy(type).then(
      () => true,
      (failure: unknown) => {
        if (asApiError(failure).status === 404) return false;
        throw failure;
      },
    );
  }

  return (
    <FormDialog
      title={policy === undefined ? 'Set a policy' : `Change the policy of ${shown(policy.type)}`}
      submit="Set"
      onClose={onClose}
      onSubmit={async (form) => {
        const told = textOf(form, 'receipts');
        const type = policy?.type ?? textOf(form, 'type') ?? '';
        if (policy === undefined && (await has(type)))
          throw new ApiError(0, {
            title: 'The type has a policy already',
            detail: `Set anew, all that the policy of ${type} says would be lost`,
            suggestion: 'Change that one',
          });
        const set = await source.setPolicy(type, {
          publish: linesOf(form, 'publish'),
          subscribe: linesOf(form, 'subscribe'),
          publish_rate: numberOf(form, 'publish_rate'),
          max_packet_bytes: numberOf(form, 'max_packet_bytes'),
          nats_subject: textOf(form, 'nats_subject'),
          ack_level: textOf(form, 'ack_level'),
          on_refusal: textOf(form, 'on_refusal'),
          receipts: told === undefined ? undefined : told === 'yes',
        });
        onSet(set.warnings);
      }}
    >
      {policy === undefined && (
        <Field label="Type of the devices">
          <input name="type" required maxLength={128} />
        </Field>
      )}
      <Field label="They publish to" hint="A topic a line, with {id} and {type}, + and #; none: nothing">
        <TopicsField name="publish" topics={policy?.publish ?? defaultTemplates.publish} />
      </Field>
      <Field label="They subscribe to">
        <TopicsField name="subscribe" topics={policy?.subscribe ?? defaultTemplates.subscribe} />
      </Field>
      <p class="hint">A number or subject that is left empty is as the server is set.</p>
      <div class="pair">
        <Field label="Messages a second">
          <input name="publish_rate" type="number" min={1} defaultValue={policy?.publish_rate ?? ''} />
        </Field>
        <Field label="Largest packet, bytes">
          <input
            name="max_packet_bytes"
            type="number"
            min={1}
            defaultValue={policy?.max_packet_bytes ?? ''}
          />
        </Field>
        <Field label="NATS subject">
          <input
            name="nats_subject"
            placeholder="raw.{id}"
            spellcheck={false}
            defaultValue={policy?.nats_subject ?? ''}
          />
        </Field>
        <Field label="Acknowledged is">
          <Choice name="ack_level" options={ackLevels} chosen={policy?.ack_level ?? ''} />
        </Field>
        <Field label="On a refusal of NATS">
          <Choice name="on_refusal" options={['withhold', 'answer']} chosen={policy?.on_refusal ?? ''} />
        </Field>
        <Field label="Receipts">
          <Choice name="receipts" options={['yes', 'no']} chosen={receipts} />
        </Field>
      </div>
    </FormDialog>
  );
}

function TopicsField({ name, topics }: { name: string; topics: readonly string[] }) {
  return <textarea name={name} rows={3} spellcheck={false} defaultValue={topics.join('\n')} />;
}

function Choice({ name, options, chosen }: { name: string; options: readonly string[]; chosen: string }) {
  return (
    <select name={name}>
      {['', ...options].map((option) => (
        <option key={option} value={option} selected={option === chosen}>
          {option === '' ? 'as the server is set' : option}
        </option>
      ))}
    </select>
  );
}
