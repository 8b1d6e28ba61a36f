//! `config.json` of a CLIP model.

use serde::Deserialize;

use crate::layers::Activation;
use crate::read_object;
use mysql_ml_base::error::{Error, Result};

/// The whole model.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
    /// `clip`.
    pub model_type: String,
    /// The length of the vectors of both towers.
    pub projection_dim: usize,
    /// The text tower.
    pub text_config: TextConfig,
    /// The image tower.
    pub vision_config: VisionConfig,
}

impl Default for ClipConfig {
    fn default() -> Self {
        ClipConfig {
            model_type: "clip".into(),
            projection_dim: 512,
            text_config: TextConfig::default(),
            vision_config: VisionConfig::default(),
        }
    }
}

/// The text tower. Missing members have the values of clip-vit-base-patch32.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the names are those of transformers' CLIPTextConfig
pub struct TextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
    pub eos_token_id: u32,
}

impl Default for TextConfig {
    fn default() -> Self {
        TextConfig {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// The image tower. Missing members have the values of clip-vit-base-patch32.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the names are those of transformers' CLIPVisionConfig
pub struct VisionConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_channels: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        VisionConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size.checked_div(self.patch_size).unwrap_or(0)
    }
}

impl ClipConfig {
    /// Reads and checks a config.json.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let config: ClipConfig =
            read_object(json).map_err(|e| Error::invalid(format!("config.json is not that of a CLIP model ({e})")))?;
        let fault = |what: &str| Err(Error::invalid(format!("config.json is not that of a CLIP model: {what}")));
        if config.model_type != "clip" {
            return fault("its model_type is not clip");
        }
        let (text, vision) = (&config.text_config, &config.vision_config);
        for (tower, width, heads) in [
            ("text_config", text.hidden_size, text.num_attention_heads),
            ("vision_config", vision.hidden_size, vision.num_attention_heads),
        ] {
            if width == 0 || heads == 0 || width % heads != 0 {
                return fault(&format!("hidden_size of {tower} is no multiple of num_attention_heads"));
            }
        }
        if vision.num_channels != 3 {
            return fault("num_channels is not 3");
        }
        // The bounds are far above any model. Sizes within them are checked against the shapes of the weights.
        let sizes = [
            config.projection_dim,
            text.vocab_size,
            text.hidden_size,
            text.intermediate_size,
            text.num_hidden_layers,
            text.max_position_embeddings,
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_hidden_layers,
            vision.image_size,
            vision.patch_size,
            vision.grid(),
        ];
        if sizes.iter().any(|size| *size == 0 || *size > 1 << 20)
            || text.num_hidden_layers > 1000
            || vision.num_hidden_layers > 1000
            || text.hidden_size.max(vision.hidden_size) > 8192
            || text.intermediate_size.max(vision.intermediate_size) > 1 << 16
            || text.num_attention_heads.max(vision.num_attention_heads) > 256
            || config.projection_dim > mysql_ml_base::vector::MAX_DIMENSIONS
            || vision.image_size > 1024
            || text.max_position_embeddings > 4096
            || vision.grid() > 64
        {
            return fault("a size is 0 or absurd");
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_in_the_first_model() {
        let config =
            ClipConfig::parse(br#"{"model_type":"clip","text_config":{"eos_token_id":2,"hidden_act":"gelu"}}"#)
                .unwrap();
        assert_eq!((config.text_config.vocab_size, config.text_config.hidden_act), (49408, Activation::Gelu));
        assert_eq!(config.vision_config.grid(), 7);
    }

    #[test]
    fn other_files_are_refused() {
        for bad in [
            "",
            "[]",
            "[1]",
            r#"{"model_type":"bert"}"#,
            r#"{"text_config":{"hidden_size":500}}"#,
            r#"{"text_config":{"hidden_size":0}}"#,
            r#"{"text_config":{"num_attention_heads":0}}"#,
            r#"{"vision_config":{"patch_size":0}}"#,
            r#"{"vision_config":{"num_channels":4}}"#,
            r#"{"vision_config":{"image_size":16}}"#,
            r#"{"vision_config":{"image_size":100000}}"#,
            r#"{"text_config":{"hidden_act":"mish"}}"#,
            r#"{"projection_dim":-1}"#,
            r#"{"projection_dim":9999999}"#,
        ] {
            let error = ClipConfig::parse(bad.as_bytes()).unwrap_err();
            assert!(error.message().contains("not that of a CLIP model"), "{bad}: {error}");
        }
    }

    #[test]
    fn sizes_are_bounded_before_memory_is_asked_for_them() {
        let of = |tower: &str, name: &str, size: usize| {
            let json = match tower {
                "" => format!("{{\"{name}\":{size}}}"),
                // One head fits any width.
                _ if name == "hidden_size" => {
                    format!("{{\"{tower}\":{{\"hidden_size\":{size},\"num_attention_heads\":1}}}}")
                }
                _ if name == "num_attention_heads" => {
                    format!("{{\"{tower}\":{{\"hidden_size\":{},\"num_attention_heads\":{size}}}}}", size.min(8192))
                }
                // The maximum of patches along one side.
                _ if name == "image_size" => format!("{{\"{tower}\":{{\"image_size\":{size},\"patch_size\":32}}}}"),
                _ => format!("{{\"{tower}\":{{\"{name}\":{size}}}}}"),
            };
            ClipConfig::parse(json.as_bytes())
        };
        for (tower, name, most) in [
            ("", "projection_dim", mysql_ml_base::vector::MAX_DIMENSIONS),
            ("text_config", "vocab_size", 1 << 20),
            ("text_config", "hidden_size", 8192),
            ("text_config", "intermediate_size", 1 << 16),
            ("text_config", "num_hidden_layers", 1000),
            ("text_config", "num_attention_heads", 256),
            ("text_config", "max_position_embeddings", 4096),
            ("vision_config", "hidden_size", 8192),
            ("vision_config", "intermediate_size", 1 << 16),
            ("vision_config", "num_hidden_layers", 1000),
            ("vision_config", "num_attention_heads", 256),
            ("vision_config", "image_size", 1024),
        ] {
            assert!(of(tower, name, most).is_ok(), "{tower} {name} {most}: {:?}", of(tower, name, most));
            for more in [most + 1, usize::MAX] {
                assert!(of(tower, name, more).is_err(), "{tower} {name} {more}");
            }
        }
        // 1024 pixels in patches of 16 give 64 patches along one side; patches of 15 give more.
        let patches = |size: usize| {
            ClipConfig::parse(format!("{{\"vision_config\":{{\"image_size\":1024,\"patch_size\":{size}}}}}").as_bytes())
        };
        assert!(patches(16).is_ok() && patches(15).is_err());
    }
}
