import { generate } from 'lean-qr';
import { useMemo, useState } from 'preact/hooks';
import { Dialog } from './forms.js';
import type { Secret } from './session.js';
import { Button } from './ui.js';

/** Shows what is shown once; only its button puts it away. */
export function SecretDialog({ secret, onClose }: { secret: Secret; onClose(): void }) {
  const { title, text, fields, code } = secret;
  return (
    <Dialog title={title} onClose={onClose} locked>
      <p>{text}</p>
      <p>
        <strong>It is shown now and never again.</strong>
      </p>
      {fields.map(([name, value]) => (
        <SecretField key={name} name={name} value={value} />
      ))}
      {code !== undefined && <QrCode text={code} label={`${title}, as a QR code`} />}
      <div class="buttons">
        <Button text="I have kept it" class="primary" onClick={onClose} />
      </div>
    </Dialog>
  );
}

function SecretField({ name, value }: { name: string; value: string }) {
  const [copied, setCopied] = useState<boolean>();
  const copy = () =>
    navigator.clipboard.writeText(value).then(
      () => setCopied(true),
      () => setCopied(false),
    );
  return (
    <div class="secret">
      <span>{name}</span>
      <code>{value}</code>
      {/* There is no clipboard for pages of plain HTTP from another machine: the text can be selected. */}
      {navigator.clipboard !== undefined && (
        <Button text={copied === true ? 'Copied' : 'Copy'} label={`Copy ${name}`} onClick={copy} />
      )}
      {copied === false && <p role="alert">The browser does not let it be copied: select it.</p>}
    </div>
  );
}

/** Modules around a code that stay light, so that a camera finds it (ISO/IEC 18004). */
const quietZone = 4;

function QrCode({ text, label }: { text: string; label: string }) {
  const { size, path } = useMemo(() => {
    const code = generate(text);
    let drawn = '';
    for (let y = 0; y < code.size; y += 1)
      for (let x = 0; x < code.size; x += 1) if (code.get(x, y)) drawn += `M${x} ${y}h1v1h-1z`;
    return { size: code.size, path: drawn };
  }, [text]);
  const side = size + 2 * quietZone;
  return (
    <svg class="qr" role="img" aria-label={label} viewBox={`${-quietZone} ${-quietZone} ${side} ${side}`}>
      <path d={path} />
    </svg>
  );
}
