/** Something of which all devices together may have so much, and one device its share. */
export type DeviceRoom = ReturnType<typeof openDeviceRoom>;

/** A device has at most one for so many that are free, so that there is room for another, however many have their share. */
const deviceShare = 8;

/**
 * Makes room for all devices.
 *
 * @param most what they may take together; the first that a device takes is given whatever its share, if there is as much.
 */
export function openDeviceRoom(most: number) {
  let free = most;
  const takenBy = new Map<string, number>();
  return {
    /** Takes room for the device; false: there is not enough, and none is taken. */
    take(deviceId: string, amount: number): boolean {
      const taken = takenBy.get(deviceId) ?? 0;
      const overShare = (taken + amount) * deviceShare > free;
      if (amount > free || (overShare && taken > 0)) return false;
      takenBy.set(deviceId, taken + amount);
      free -= amount;
      return true;
    },
    /** Gives back what was taken. */
    giveBack(deviceId: string, amount: number): void {
      const left = (takenBy.get(deviceId) ?? 0) - amount;
      if (left > 0) takenBy.set(deviceId, left);
      else takenBy.delete(deviceId);
      free += amount;
    },
  };
}
