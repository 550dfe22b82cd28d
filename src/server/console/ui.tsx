import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';
import type { ApiError } from './api-error.js';
import { useSession } from './session.js';
import { shown, time } from './text.js';

/** What the API says of a refusal: what happened, each field at fault, and what to do. */
export function ProblemBox({ error }: { error: ApiError | undefined }) {
  if (error === undefined) return null;
  const { title, detail, suggestion, code } = error.problem;
  return (
    <div class="problem" role="alert">
      <strong>{shown(title ?? 'It did not work')}</strong>
      <p>{shown(detail)}.</p>
      {suggestion !== undefined && <p>{shown(suggestion)}.</p>}
      {code !== undefined && <code>{code}</code>}
    </div>
  );
}

/** What a list without rows says: what would stand there, and how it comes to. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p>{title}</p>
      {children}
    </div>
  );
}

export function Command({ text }: { text: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what is wider than the page is scrolled by keyboard, too.
    <pre class="command" tabIndex={0}>
      <code>{text}</code>
    </pre>
  );
}

export type Tone = 'good' | 'warn' | 'bad' | 'dim';

export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** A time in a table, whose day gives way where there is little room. */
export function When({ at }: { at: string }) {
  const [day, clock] = time(at).split(' ');
  return (
    <time dateTime={at}>
      <span class="day">{day} </span>
      {clock}
    </time>
  );
}

/** A heading with what can be done beside it. */
export function Heading({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="heading">
      <h1>{title}</h1>
      <div class="actions">{children}</div>
    </div>
  );
}

/** A part of a page, with what it is called. */
export function Section({ title, children }: { title: string; children: ComponentChildren }) {
  const id = useId();
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}

/** A button outside of a form; `label` says of which thing it is where several have the same text. */
export function Button(props: {
  text: string;
  label?: string;
  class?: 'primary' | 'danger' | 'danger small' | undefined;
  disabled?: boolean;
  /** Of one that stays pressed. */
  pressed?: boolean;
  onClick(): void;
}) {
  const { text, label, class: name, disabled, pressed, onClick } = props;
  return (
    <button
      type="button"
      class={name}
      aria-label={label}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      {text}
    </button>
  );
}

export type Fact = readonly [name: string, value: ComponentChildren];

/** Names and values, one under the other; a value of null is left out with its name. */
export function Facts({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) =>
        value === null ? null : (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ),
      )}
    </dl>
  );
}

/** Whether a device or a key can be used. */
export function Validity(props: {
  of: { readonly revoked_at: string | null; readonly expires_at: string | null };
}) {
  const { revoked_at: revoked, expires_at: expires } = props.of;
  const { source } = useSession();
  if (revoked !== null) return <Badge tone="bad">revoked</Badge>;
  const isExpired = expires !== null && Date.parse(expires) <= source.now();
  return isExpired ? <Badge tone="warn">expired</Badge> : <Badge tone="good">active</Badge>;
}
