//! References to the server's component services, acquired by name and released on drop.

use std::ffi::{c_void, CStr};

use super::symbols::{statement_api, Registry};

/// A reference to a service, released on drop: the server logs an error for one still held at shutdown.
pub struct ServiceRef<T> {
    registry: *mut Registry,
    service: *mut T,
}

impl<T> ServiceRef<T> {
    /// Acquires the service `name`; `None` without a server or service.
    ///
    /// # Safety
    /// `T` must be the layout of that service, as the server's header declares it.
    pub unsafe fn acquire(name: &CStr) -> Option<Self> {
        let (acquire, release) = (statement_api().registry_acquire?, statement_api().registry_release?);
        // SAFETY: the protocol of the server's registry: acquire it, acquire a service; released in Drop, or here
        // where there is no such service.
        unsafe {
            let registry = acquire();
            if registry.is_null() {
                return None;
            }
            let mut service: *mut c_void = std::ptr::null_mut();
            let failed = ((*registry).acquire)(name.as_ptr(), &mut service);
            if failed != 0 || service.is_null() {
                release(registry);
                return None;
            }
            Some(ServiceRef { registry, service: service.cast::<T>() })
        }
    }

    /// The service's functions.
    pub fn get(&self) -> &T {
        // SAFETY: acquired as a T, which was the caller's promise, and not released before Drop.
        unsafe { &*self.service }
    }
}

impl<T> Drop for ServiceRef<T> {
    fn drop(&mut self) {
        let Some(release) = statement_api().registry_release else { return };
        // SAFETY: both were acquired and are released once, the service first.
        unsafe {
            ((*self.registry).release)(self.service.cast::<c_void>());
            release(self.registry);
        }
    }
}
