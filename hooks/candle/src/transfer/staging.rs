//! Pinned buffers for device-to-host copies: reusable slots of a device buffer, a host buffer and
//! two events, and the stream that copies.

#![allow(
    unsafe_code,
    reason = "a copy that nobody waits for is outside of what the safe interface can express"
)]

use std::ffi::c_uint;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaStream, DriverError, result, sys,
};

use crate::error::Error;

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        Self::Candle(candle_core::Error::wrap(error))
    }
}

type DriverResult<T> = Result<T, DriverError>;

/// The buffers of one device, and the stream that copies them.
pub(crate) struct Staging {
    context: Arc<CudaContext>,
    /// Created directly: a stream from `CudaContext` would make it record events for every kernel
    /// of training.
    stream: sys::CUstream,
    slots: Mutex<Vec<Slot>>,
}

/// The buffers of one result.
struct Slot {
    host: NonNull<u8>,
    device: sys::CUdeviceptr,
    capacity: usize,
    /// The result is in `device`.
    computed: sys::CUevent,
    /// The result is in `host`.
    copied: sys::CUevent,
    /// Whether `copied` is known to have happened.
    is_idle: bool,
}

// SAFETY: streams, events and addresses are handles of the driver, which any thread may use once
// the context is bound to it, as every method here does first.
unsafe impl Send for Staging {}
// SAFETY: as above; the slots are behind a lock.
unsafe impl Sync for Staging {}
// SAFETY: a slot is the only owner of its buffers.
unsafe impl Send for Slot {}

/// A slot for a result that is about to be computed.
pub(crate) struct StagingSlot {
    /// Leaked unless the result is sent: after a failure it is unknown what the device still does
    /// with the buffers, so they are never reused.
    slot: ManuallyDrop<Slot>,
    /// The number of bytes to copy to the host. Bytes after that go to the device.
    bytes: usize,
    staging: Arc<Staging>,
}

/// A copy in progress.
pub(crate) struct PendingCopy {
    slot: Option<Slot>,
    bytes: usize,
    staging: Arc<Staging>,
}

/// A result on the host.
pub(crate) struct HostBuffer(PendingCopy);

impl Staging {
    pub(crate) fn new(context: &Arc<CudaContext>) -> DriverResult<Arc<Self>> {
        context.bind_to_thread()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        Ok(Arc::new(Self { context: Arc::clone(context), stream, slots: Mutex::default() }))
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Returns a slot for a result of `bytes`, and for `upload` bytes that go to the device.
    /// Allocates only if more results are in flight than ever before, or larger ones.
    pub(crate) fn draft(
        self: &Arc<Self>,
        bytes: usize,
        upload: usize,
    ) -> DriverResult<StagingSlot> {
        self.context.bind_to_thread()?;
        let needed = capacity(bytes.next_multiple_of(8) + upload);
        let slot = match self.take(needed) {
            Some(slot) => slot,
            None => Slot::new(needed)?,
        };
        let slot = ManuallyDrop::new(Slot { is_idle: false, ..slot });
        Ok(StagingSlot { slot, bytes, staging: Arc::clone(self) })
    }

    /// Takes an idle slot of this capacity.
    fn take(&self, capacity: usize) -> Option<Slot> {
        let mut slots = self.lock();
        let fits = |slot: &Slot| slot.capacity == capacity && slot.is_idle();
        let place = slots.iter().position(fits)?;
        Some(slots.swap_remove(place))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounds up, so that sizes that differ a little share their slots.
fn capacity(bytes: usize) -> usize {
    const MEBIBYTE: usize = 1 << 20;
    if bytes < MEBIBYTE {
        bytes.next_power_of_two().max(4096)
    } else {
        bytes.next_multiple_of(MEBIBYTE)
    }
}

impl Slot {
    fn new(capacity: usize) -> DriverResult<Self> {
        // If a later step fails, what has been created is freed.
        let mut slot = Self {
            host: NonNull::dangling(),
            device: 0,
            capacity: 0,
            computed: std::ptr::null_mut(),
            copied: std::ptr::null_mut(),
            is_idle: true,
        };
        match slot.make(capacity) {
            Ok(()) => Ok(slot),
            Err(error) => {
                slot.free();
                Err(error)
            }
        }
    }

    fn make(&mut self, capacity: usize) -> DriverResult<()> {
        use sys::CUevent_flags_enum::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING};
        let timeless = CU_EVENT_DISABLE_TIMING as c_uint;
        // SAFETY: the pointers are to fields of this slot, and the context is bound.
        unsafe {
            sys::cuEventCreate(&raw mut self.computed, timeless).result()?;
            // The recorder's thread sleeps while it waits; spinning would take a core from the data
            // loader.
            sys::cuEventCreate(&raw mut self.copied, timeless | CU_EVENT_BLOCKING_SYNC as c_uint)
                .result()?;
            // Not from the stream-ordered pool, which would need an order between the streams.
            self.device = result::malloc_sync(capacity)?;
            // Plain pinned memory: write-combined memory is slow to read. The device can read it,
            // too.
            let host = result::malloc_host(capacity, sys::CU_MEMHOSTALLOC_DEVICEMAP)?;
            self.host = NonNull::new(host.cast()).unwrap_or(NonNull::dangling());
        }
        self.capacity = capacity;
        Ok(())
    }

    fn is_idle(&self) -> bool {
        // SAFETY: the event is this slot's, and was recorded before the slot came back.
        self.is_idle || unsafe { result::event::query(self.copied) }.is_ok()
    }

    /// Frees the memory. The device must be done with it.
    fn free(self) {
        // A failure means that the context is being destroyed, which frees the memory anyway.
        // SAFETY: the slot owns what it frees, and zero or null stands for what was never created.
        unsafe {
            if self.capacity > 0 {
                let _ = result::free_host(self.host.as_ptr().cast());
            }
            if self.device != 0 {
                let _ = result::free_sync(self.device);
            }
            for event in [self.computed, self.copied] {
                if !event.is_null() {
                    let _ = result::event::destroy(event);
                }
            }
        }
    }
}

impl StagingSlot {
    /// Returns the address where the device writes the result.
    pub(crate) fn device(&self) -> sys::CUdeviceptr {
        self.slot.device
    }

    /// Makes bytes readable by the device, and returns their address.
    pub(crate) fn upload(&mut self, bytes: impl IntoIterator<Item = u8>) -> u64 {
        let start = self.bytes.next_multiple_of(8);
        // SAFETY: the slot is idle and has no other owner, and memory for `capacity` bytes was
        // allocated; bytes that were never written are written before they are read.
        let room = unsafe {
            let room = self.slot.host.as_ptr().add(start).cast::<std::mem::MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(room, self.slot.capacity - start)
        };
        for (place, byte) in room.iter_mut().zip(bytes) {
            place.write(byte);
        }
        // Pinned memory has one address for host and device.
        self.slot.host.as_ptr() as u64 + start as u64
    }

    /// Queues the copy of the result to the host after everything queued on `stream` so far.
    pub(crate) fn send(self, stream: &CudaStream) -> DriverResult<PendingCopy> {
        let Self { slot, bytes, staging } = self;
        let own = staging.stream;
        // SAFETY: events, streams and buffers live as long as the slot, which the copy owns, and
        // its staging; the host's buffer is not touched before `copied` has happened, and neither
        // buffer is reused before.
        unsafe {
            result::event::record(slot.computed, stream.cu_stream())?;
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(own, slot.computed, flags)?;
            let host = slot.host.as_ptr().cast();
            sys::cuMemcpyDtoHAsync_v2(host, slot.device, bytes, own).result()?;
            result::event::record(slot.copied, own)?;
        }
        Ok(PendingCopy { slot: Some(ManuallyDrop::into_inner(slot)), bytes, staging })
    }
}

impl PendingCopy {
    /// Sleeps until the result is on the host.
    pub(crate) fn wait(mut self) -> DriverResult<HostBuffer> {
        self.staging.context.bind_to_thread()?;
        if let Some(slot) = &mut self.slot {
            // SAFETY: the event was recorded when the result was sent.
            unsafe { result::event::synchronize(slot.copied) }?;
            slot.is_idle = true;
        }
        Ok(HostBuffer(self))
    }
}

impl Drop for PendingCopy {
    fn drop(&mut self) {
        // If nobody has waited, the next user of the slot asks whether the copy has ended.
        self.staging.lock().extend(self.slot.take());
    }
}

impl HostBuffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0.slot {
            // SAFETY: the copy has filled that many bytes and ended, and nothing else writes to the
            // slot while this owns it.
            Some(slot) => unsafe { std::slice::from_raw_parts(slot.host.as_ptr(), self.0.bytes) },
            None => &[],
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If the context fails here, the driver frees everything.
        if self.context.bind_to_thread().is_err() {
            return;
        }
        // SAFETY: the stream belongs to this struct. Once it is synchronized, no slot is in use,
        // and the stream can be destroyed.
        unsafe {
            if result::stream::synchronize(self.stream).is_err() {
                return;
            }
            for slot in self.lock().drain(..) {
                slot.free();
            }
            let _ = result::stream::destroy(self.stream);
        }
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging").field("device", &self.context.ordinal()).finish_non_exhaustive()
    }
}
