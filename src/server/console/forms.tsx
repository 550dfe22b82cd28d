import type { ComponentChildren, TargetedEvent } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError, asApiError } from './api-error.js';
import { useSession } from './session.js';
import { Button, ProblemBox } from './ui.js';

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
  /** Called once it is done. */
  onDone?(): void;
  children: ComponentChildren;
}) {
  const { title, submit, danger = false, stays = false, onClose, onSubmit, onDone, children } = props;
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
      onDone?.();
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
          <Button text={stays ? 'Close' : 'Cancel'} disabled={busy} onClick={onClose} />
          <button type="submit" class={danger ? 'danger' : 'primary'} disabled={busy}>
            {submit}
          </button>
        </div>
      </form>
    </Dialog>
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
