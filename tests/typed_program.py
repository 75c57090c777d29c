"""A program of a user's own: `make types` holds the public surface against it; nothing runs it."""

import pathlib

import jax
import numpy as np

import rpfgsm_jax as rp


def protects(folder: pathlib.Path) -> None:
  """Batches, one photo, a folder; what comes back has types."""
  names = ("scenes25/resnet18", "scenes25/alexnet")
  nets = [rp.load_classifier(name) for name in names]
  photos = [photo for _, photo in rp.data.sample_photos((128, 128))]
  protected: np.ndarray = rp.protect(photos, nets, rp.RPFGSMConfig(epsilon=16.0), seed=1)
  done: rp.ProtectedPhoto = rp.protect_photo(
    photos[0], nets, held_out=nets[:1], out=folder / "a.png"
  )
  print(protected.shape, done.verdict.status, done.verdict.psnr + 1.0)
  config = rp.PhotoConfig(encoding=rp.photos.Encoding(format="jpeg", quality=80))
  rp.protect_photo("beach.jpg", nets, config)
  for record in rp.data.list_images(folder):
    print(record.relative)


def attacks(images: jax.Array, mine: rp.Embedder) -> None:
  """Every attack has one form."""
  nets = [rp.load_classifier("scenes25/resnet50")]
  key = jax.random.key(0)
  config = rp.RPFGSMConfig(epsilon=8.0, num_steps=12, targeted=True, record_draws=True)
  result: rp.AttackResult = rp.rp_fgsm(key, images, nets, config, image_ids=[7, 8])
  print(result.adversarial.shape, result.target)
  rp.rp_fgsm(key, images, [mine])
  rp.cw(key, images, nets, rp.CWConfig(num_steps=20))
  rp.jsma(key, images, nets, rp.JSMAConfig())
  rp.e_fgsm(key, images, nets, rp.FGSMConfig(epsilon=4.0))
  rp.eot(key, images, nets, rp.EOTConfig())
  rp.di_fgsm(key, images, nets, rp.DIFGSMConfig(transfer=rp.TransferOptions(momentum=1.0)))


def measures(original: np.ndarray, protected: np.ndarray) -> float:
  """Quality, defenses, rates."""
  seen = rp.defenses.jpeg(jax.numpy.asarray(protected, "float32"), 75)
  rate = rp.evaluation.misleading_rate(np.zeros(4, bool)).value
  print(seen.shape, rate)
  return float(rp.quality.psnr(original, protected))


def own_network(params: dict[str, jax.Array]) -> rp.Classifier:
  """A network in plain JAX."""

  def apply(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    return images.mean(axis=(1, 2)) @ weights["w"]

  return rp.Classifier.from_function(
    apply, params, class_names=("a", "b"), image_size=(32, 32), name="mine"
  )
