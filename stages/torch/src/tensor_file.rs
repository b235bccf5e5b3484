//! safetensors files as tensors: mapped for reading, written without a second copy of the whole.
//!
//! It knows dtypes and shapes, not what the tensors mean.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use neftpipe_protocol::Failure;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Device, Kind, Tensor};

/// What is wrong with a file of tensors.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// It cannot be opened, mapped or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ends before its data does, or holds more than its header says.
    #[error("{}: the file is truncated or damaged: it has {bytes} bytes, which is not what its header says", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Its header is not that of a safetensors file.
    #[error("{}: not a safetensors file: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// It lacks a tensor.
    #[error("{}: the tensor `{name}` is missing", path.display())]
    Missing {
        /// The file (or the folder of shards).
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than its reader needs.
    #[error("{}: `{name}` has the shape {found:?}, {wanted:?} is wanted", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<i64>,
        /// The shape that was asked for.
        wanted: Vec<i64>,
    },
    /// A tensor has a number format that is not read.
    #[error("{}: `{name}` is stored as {dtype:?}, which is not supported", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its format.
        dtype: Dtype,
    },
    /// libtorch refused.
    #[error("{}: `{name}`: {source}", path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Why.
        source: tch::TchError,
    },
}

impl From<TensorFileError> for Failure {
    fn from(error: TensorFileError) -> Self {
        match &error {
            TensorFileError::Io { source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
                Self::environment(error.to_string())
            }
            _ => Self::data(error.to_string()),
        }
    }
}

/// A mapped safetensors file.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    metadata: Metadata,
}

impl TensorFile {
    /// Maps a file and checks its header against its size.
    ///
    /// # Errors
    /// Where it cannot be read, is truncated, or is something else.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let io = |source| TensorFileError::Io { what: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: inputs of a stage are read-only files that nobody changes while the stage runs.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let (header_bytes, metadata) = SafeTensors::read_metadata(&map).map_err(|source| match source {
            SafeTensorError::MetadataIncompleteBuffer
            | SafeTensorError::HeaderTooSmall
            | SafeTensorError::InvalidHeaderLength => {
                TensorFileError::Truncated { path: path.to_owned(), bytes: map.len() as u64 }
            }
            source => TensorFileError::Header { path: path.to_owned(), source },
        })?;
        Ok(Self { path: path.to_owned(), map, data_start: 8 + header_bytes, metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.metadata.tensors().into_keys().collect();
        names.sort();
        names
    }

    /// Whether it has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.metadata.info(name).map(|info| info.shape.iter().map(|&size| size as i64).collect())
    }

    /// Copies a tensor to a device, converting its number format on the way.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, TensorFileError> {
        let torch = |source| TensorFileError::Torch { path: self.path.clone(), name: name.to_owned(), source };
        let mut target = Tensor::f_empty(shape, (kind, device)).map_err(torch)?;
        self.read_into(name, &mut target)?;
        Ok(target)
    }

    /// Copies a tensor into another one of its shape, as [`Self::read`] does.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read_into(&self, name: &str, target: &mut Tensor) -> Result<(), TensorFileError> {
        let (source, found) = self.view(name)?;
        let shape = target.size();
        if found != shape {
            return Err(TensorFileError::Shape {
                path: self.path.clone(),
                name: name.to_owned(),
                found,
                wanted: shape,
            });
        }
        let torch = |source| TensorFileError::Torch { path: self.path.clone(), name: name.to_owned(), source };
        target.f_copy_(&source).map_err(torch)?;
        drop(source);
        self.let_go(name);
        Ok(())
    }

    /// Gives the pages of a tensor back that was copied: else the whole file would be held beside the copies.
    fn let_go(&self, name: &str) {
        let Some(info) = self.metadata.info(name) else { return };
        let (start, end) = (self.data_start + info.data_offsets.0, self.data_start + info.data_offsets.1);
        // SAFETY: the map is of a file and is only read: pages that are wanted again are read again.
        #[cfg(unix)]
        let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        // Memory is all that is at stake.
        #[cfg(unix)]
        drop(advised);
    }

    /// Copies a tensor of any shape to the CPU, in the format that it has.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn read_any(&self, name: &str) -> Result<Tensor, TensorFileError> {
        let (source, shape) = self.view(name)?;
        self.read(name, &shape, source.kind(), Device::Cpu)
    }

    /// A tensor over the mapped bytes; it must not outlive `self`.
    fn view(&self, name: &str) -> Result<(Tensor, Vec<i64>), TensorFileError> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| TensorFileError::Missing { path: self.path.clone(), name: name.to_owned() })?;
        let kind = kind_of(info.dtype).ok_or_else(|| TensorFileError::Dtype {
            path: self.path.clone(),
            name: name.to_owned(),
            dtype: info.dtype,
        })?;
        let shape: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        // SAFETY: the bytes stay mapped while `self` lives, callers copy out of the view before that ends, and the
        // header check has compared dtype and shape with the number of bytes.
        let view = unsafe { Tensor::f_from_blob(self.bytes(info).as_ptr(), &shape, &[], kind, Device::Cpu) };
        let view =
            view.map_err(|source| TensorFileError::Torch { path: self.path.clone(), name: name.to_owned(), source })?;
        Ok((view, shape))
    }

    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.map[self.data_start + info.data_offsets.0..self.data_start + info.data_offsets.1]
    }
}

/// Writes tensors under their names, in the number format that they have. Equal tensors give equal bytes.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), TensorFileError> {
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), Stored::new(tensor)));
    // transformers and peft refuse files that do not say that they come from PyTorch's layout.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => TensorFileError::Io { what: "write", path: path.to_owned(), source },
        source => TensorFileError::Header { path: path.to_owned(), source },
    })
}

/// A tensor as the safetensors writer wants it; bytes are copied out one tensor at a time.
struct Stored<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl<'a> Stored<'a> {
    fn new(tensor: &'a Tensor) -> Self {
        Self { tensor, shape: tensor.size().iter().map(|&size| size as usize).collect() }
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        dtype_of(self.tensor.kind()).expect("only number formats that safetensors has are stored")
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

const FORMATS: [(Dtype, Kind); 8] = [
    (Dtype::F32, Kind::Float),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F16, Kind::Half),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    FORMATS.iter().find(|(known, _)| *known == dtype).map(|&(_, kind)| kind)
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    FORMATS.iter().find(|(_, known)| *known == kind).map(|&(dtype, _)| dtype)
}
