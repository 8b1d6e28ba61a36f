//! The model whose transform function runs on this thread.

use std::cell::RefCell;

thread_local! {
    static CALLED: RefCell<Option<(String, Option<String>)>> = const { RefCell::new(None) };
}

/// Marks the thread as running functions of a model, until it is dropped.
pub struct Model(());

impl Model {
    /// For the model `id`, which the provider calls `qualified_name`.
    pub fn set(id: &str, qualified_name: Option<String>) -> Self {
        CALLED.with(|c| *c.borrow_mut() = Some((id.to_owned(), qualified_name)));
        Model(())
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        CALLED.with(|c| *c.borrow_mut() = None);
    }
}

/// The provider's name of the model `id`; the outer `None` if another model is being called.
pub fn qualified_name(id: &str) -> Option<Option<String>> {
    CALLED.with(|c| c.borrow().as_ref().filter(|(called, _)| called == id).map(|(_, name)| name.clone()))
}
