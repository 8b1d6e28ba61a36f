//! A chat's messages, independent of the provider's format.

/// The messages of a chat.
#[derive(Debug, Clone, Default)]
pub(super) struct Dialogue {
    users: Vec<String>,
    others: Vec<String>,
    answered: bool,
    is_prompt: bool,
}

impl Dialogue {
    /// The dialogue of an interface with a single prompt.
    pub(super) fn of(prompt: &str) -> Self {
        let mut dialogue = Self { is_prompt: true, ..Self::default() };
        dialogue.say("user", prompt.to_owned());
        dialogue
    }

    /// Adds a message. Providers call the model's role `assistant` or `model`.
    pub(super) fn say(&mut self, role: &str, text: String) {
        if role == "user" {
            self.users.push(text);
            return;
        }
        self.answered |= matches!(role, "assistant" | "model");
        self.others.push(text);
    }

    /// Puts what the model sees in images before the user's last message.
    pub(super) fn shows(&mut self, images: &str) {
        if let Some(last) = self.users.last_mut() {
            last.insert_str(0, images);
        }
    }

    /// The user's last message.
    pub(super) fn last(&self) -> &str {
        self.users.last().map_or("", String::as_str)
    }

    /// The user's messages, the last one first.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        self.users.iter().rev().map(String::as_str)
    }

    /// All messages.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.users.iter().chain(&self.others).map(String::as_str)
    }

    /// Whether the chat has no answer yet: one message of the user, and none of the model.
    ///
    /// A single prompt has no such order: there a quotation of `answer` outside the markers means an earlier answer.
    pub(super) fn is_before(&self, answer: &str, without_markers: &str) -> bool {
        let is_quoted = self.is_prompt && !answer.is_empty() && without_markers.contains(answer);
        !self.answered && self.users.len() < 2 && !is_quoted
    }
}
