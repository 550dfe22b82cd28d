import type { ComponentChildren, TargetedEvent } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError, asApiError } from './api-error.js';
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

export interface Column<Row> {
  readonly key: string;
  readonly title: string;
  /** A CSS width; without one the column shares what is left. */
  readonly width?: string;
  readonly align?: 'right';
  /** From which width of the window on it is shown. */
  readonly from?: 'medium' | 'wide';
  readonly sortable?: boolean;
  /** Its text is shown whole, on several lines. */
  readonly wrap?: boolean;
  render(row: Row): ComponentChildren;
}

/** A table whose columns keep their places whatever is in them. */
export function Table<Row>(props: {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf(row: Row): string | number;
  sort?: { readonly key: string; readonly descending: boolean };
  onSort?(key: string): void;
}) {
  const { caption, columns, rows, keyOf, sort, onSort } = props;
  const classOf = ({ align, from, wrap }: Column<Row>) =>
    [align, from, wrap === true && 'wrap'].filter(Boolean).join(' ');
  return (
    <table>
      <caption>{caption}</caption>
      <colgroup>
        {columns.map((column) => (
          <col key={column.key} class={classOf(column)} style={{ width: column.width ?? 'auto' }} />
        ))}
      </colgroup>
      <thead>
        <tr>
          {columns.map((column) => {
            const sorted =
              sort?.key === column.key ? (sort.descending ? 'descending' : 'ascending') : undefined;
            return (
              <th
                key={column.key}
                scope="col"
                class={classOf(column)}
                {...(sorted && { 'aria-sort': sorted })}
              >
                {column.sortable === true ? (
                  <button type="button" class="sort" onClick={() => onSort?.(column.key)}>
                    {column.title}
                    <span aria-hidden="true">
                      {sorted === undefined ? '' : sort?.descending ? ' ↓' : ' ↑'}
                    </span>
                  </button>
                ) : (
                  column.title
                )}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map((column) => (
              <td key={column.key} class={classOf(column)}>
                {column.render(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Names and values, one under the other. */
export function Facts({ facts }: { facts: readonly (readonly [name: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Dialog(props: {
  title: string;
  onClose(): void;
  /** It is closed by its own buttons only. */
  locked?: boolean;
  children: ComponentChildren;
}) {
  const { title, onClose, locked = false, children } = props;
  const element = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const id = useId();
  // biome-ignore lint/correctness/useExhaustiveDependencies: what counts is whether it opens locked.
  useLayoutEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    // The key that led here, pressed once more, must not press a button of what nobody has seen yet.
    if (locked) heading.current?.focus();
    return () => {
      dialog?.close();
      // A dialog that has left the page does not give the focus back itself, nor one that was opened from it.
      const isThere = before instanceof HTMLElement && before.isConnected && before !== document.body;
      (isThere ? before : document.getElementById('main'))?.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        if (!locked) onClose();
      }}
      onClose={() => {
        // A browser lets go of a dialog at the second Escape, whatever was said to the first.
        if (element.current?.isConnected && locked) element.current.showModal();
      }}
    >
      <h2 id={id} ref={heading} tabIndex={-1}>
        {title}
      </h2>
      {children}
    </dialog>
  );
}

/**
 * A dialog that asks before something is done, and shows why it could not be: it stays until that is known. Where its
 * page was left meanwhile, that is told wherever one is.
 */
export function FormDialog(props: {
  title: string;
  submit: string;
  danger?: boolean;
  /** What came of it is shown, and it can be done again. */
  stays?: boolean;
  onClose(): void;
  onSubmit(form: FormData): Promise<unknown>;
  children: ComponentChildren;
}) {
  const { title, submit, danger = false, stays = false, onClose, onSubmit, children } = props;
  const session = useSession();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const left = useRef(false);
  useEffect(
    () => () => {
      left.current = true;
    },
    [],
  );
  const onFormSubmit = async (event: TargetedEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setError(undefined);
    try {
      await onSubmit(form);
      if (!stays) return onClose();
    } catch (failure) {
      const why = asApiError(failure);
      if (left.current) session.tell(why.titled(title));
      else setError(why);
    }
    setBusy(false);
  };
  return (
    <Dialog title={title} onClose={onClose} locked={busy}>
      <form onSubmit={onFormSubmit}>
        {children}
        <ProblemBox error={error} />
        <div class="buttons">
          <button type="button" onClick={onClose} disabled={busy}>
            {stays ? 'Close' : 'Cancel'}
          </button>
          <button type="submit" class={danger ? 'danger' : 'primary'} disabled={busy}>
            {submit}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Asks for the next page of a list, where there is one, and says why it does not come. */
export function MoreButton({ more }: { more: (() => Promise<void>) | undefined }) {
  return more === undefined ? null : <More more={more} />;
}

function More({ more }: { more(): Promise<void> }) {
  const [error, setError] = useState<ApiError>();
  const onClick = () => {
    setError(undefined);
    more().catch((failure: unknown) => setError(asApiError(failure)));
  };
  return (
    <>
      <ProblemBox error={error} />
      <div class="pager">
        <button type="button" onClick={onClick}>
          Show more
        </button>
      </div>
    </>
  );
}

/** A labelled field of a form. */
export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: string;
  children: ComponentChildren;
}) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is what is given.
    <label class="field">
      <span>{label}</span>
      {children}
      {hint !== undefined && <small>{hint}</small>}
    </label>
  );
}

/** A field of text that says what of a list is shown, and loses nothing of it when the page is drawn anew. */
export function FilterField(props: {
  label: string;
  /** In the field while it is empty; default: its label. */
  placeholder?: string;
  value: string;
  maxLength?: number;
  /** It is applied with every key, not only once it is entered. */
  live?: boolean;
  onFilter(text: string): void;
}) {
  const { label, placeholder = label, value, maxLength, live = false, onFilter } = props;
  const element = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(value);
  useEffect(() => {
    // Where one types, what comes of it comes later.
    if (document.activeElement !== element.current) setText(value);
  }, [value]);
  return (
    <input
      type="search"
      ref={element}
      aria-label={label}
      placeholder={placeholder}
      maxLength={maxLength}
      value={text}
      onInput={(event) => {
        setText(event.currentTarget.value);
        if (live) onFilter(event.currentTarget.value.trim());
      }}
      onChange={(event) => !live && onFilter(event.currentTarget.value.trim())}
    />
  );
}

/** The text of a field, without the space around it; undefined when there is none. */
export function textOf(form: FormData, name: string): string | undefined {
  const text = String(form.get(name) ?? '').trim();
  return text === '' ? undefined : text;
}

/** A field for when something expires. */
export function TimeField({ label, hint, value = '' }: { label: string; hint: string; value?: string }) {
  return (
    <Field label={label} hint={hint}>
      <input name="expires" type="datetime-local" max="9999-12-31T23:59" defaultValue={value} />
    </Field>
  );
}

/** The time in such a field, which is that of the time zone of who looks. */
export function timeOf(form: FormData): string | undefined {
  const text = textOf(form, 'expires');
  if (text === undefined) return undefined;
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) throw new ApiError(0, { detail: `"${text}" is no time` });
  return at.toISOString();
}
