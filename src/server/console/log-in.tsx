import type { TargetedEvent } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from './api-error.js';
import { Field, textOf } from './forms.js';
import { Button, ProblemBox } from './ui.js';

/** Asks for a key, once it is known that the API asks for one. */
export function LogIn(props: {
  refusal: ApiError | undefined;
  hasKey: boolean;
  onKey(key: string): void;
  /** Asks once more, with the key that there is. */
  onAgain(): void;
}) {
  const { refusal, hasKey, onKey, onAgain } = props;
  const [fault, setFault] = useState<ApiError>();
  if (refusal === undefined && !hasKey)
    return (
      <main class="login">
        <p role="status">Asking the API …</p>
      </main>
    );
  const onSubmit = (event: TargetedEvent<HTMLFormElement>) => {
    event.preventDefault();
    const key = textOf(new FormData(event.currentTarget), 'key');
    if (key === undefined || !/^[\x21-\x7e]+$/.test(key)) {
      setFault(
        new ApiError(0, {
          title: 'That is no key',
          detail: 'A key has no spaces and no characters beyond ASCII',
        }),
      );
      return;
    }
    setFault(undefined);
    onKey(key);
  };
  const isAsked = refusal?.status === 401;
  return (
    <main class="login">
      <h1>svc-mqtt</h1>
      {refusal !== undefined && !isAsked ? (
        <>
          <ProblemBox error={refusal} />
          <Button text="Try again" onClick={onAgain} />
        </>
      ) : (
        <form onSubmit={onSubmit}>
          {/* Keepers of passwords keep one beside a name. */}
          <input name="user" type="text" autocomplete="username" value="svc-mqtt" hidden readOnly />
          <Field label="API key" hint="Kept in the memory of this page only: loading it anew asks again">
            <KeyInput />
          </Field>
          <ProblemBox error={fault ?? (hasKey ? refusal : undefined)} />
          <button type="submit" class="primary">
            Log in
          </button>
          <p class="hint">
            <code>svc-mqtt api-key create --name me --role viewer</code> makes a key to look with, the role{' '}
            <code>operator</code> one to act with. API_TOKEN is taken, too.{' '}
            <a href="../docs/index.html">The API</a>
          </p>
        </form>
      )}
    </main>
  );
}

/** Has the focus at once: a browser heeds `autofocus` when it likes, and for one element of a document. */
function KeyInput() {
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.focus(), []);
  return (
    <input
      name="key"
      type="password"
      autocomplete="current-password"
      required
      ref={input}
      spellcheck={false}
    />
  );
}
