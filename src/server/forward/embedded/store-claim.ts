import { makeOwnDirectory } from '../../../data-directory.js';
import { type Claim, claimDirectory, connectToOwner, shortenPath } from '../../../directory-claim.js';
import { fileReasonOf, SvcMqttError } from '../../../errors.js';

/**
 * Claims the directory of the embedded NATS server: two servers on one store would each write over what the other has
 * acknowledged. The claim is held as long as the server is looked after, and ends with this process.
 *
 * @returns undefined while another process has it, or is claiming it.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function claimStore(dir: string): Promise<Claim | undefined> {
  try {
    makeOwnDirectory(dir);
    const address = await shortenPath(dir);
    const claim = await claimDirectory(address.path, (socket) => void socket.destroy());
    if (claim === undefined) await address.release();
    return (
      claim && {
        async release() {
          await claim.release();
          await address.release();
        },
      }
    );
  } catch (error) {
    throw cannotWrite(dir, error);
  }
}

/** Whether a process that lives has claimed the directory. */
export async function isStoreClaimed(dir: string): Promise<boolean> {
  const address = await shortenPath(dir);
  try {
    const owner = await connectToOwner(address.path);
    owner?.destroy();
    return owner !== undefined;
  } catch {
    // There is no such directory yet, or it is not ours.
    return false;
  } finally {
    await address.release();
  }
}

export function cannotWrite(dir: string, cause: unknown): SvcMqttError {
  return new SvcMqttError('NATS_EMBEDDED', `Cannot write to ${dir}: ${fileReasonOf(cause)}`, {
    suggestion: 'Set DATA_DIR to a directory on a local disk that this user may write to',
    cause,
  });
}

/** The store is claimed by another process, whose server does not answer. */
export function storeUnreachable(dir: string): SvcMqttError {
  return new SvcMqttError(
    'NATS_EMBEDDED',
    `Another svc-mqtt has the NATS server in ${dir}, and it does not answer here`,
    { suggestion: 'Stop the other one, or set DATA_DIR to another directory, or NATS_URL to a NATS server' },
  );
}
