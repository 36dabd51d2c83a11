"""Names, layouts and refusals of pretrained weights; download from a server."""

import functools
import hashlib
import http.server
import importlib.metadata
import json
import tempfile
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from attnmel_jax import errors
from attnmel_jax.models import classifiers
from attnmel_jax.models import pretrained
from attnmel_jax.models import vgg
from tests.models import golden_inputs

SHA = {'vgg16': '397923af', 'vgg16_bn': '6c64b313'}
FULL_CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def _model(name, backbone='vgg16', width=golden_inputs.WIDTH):
  return classifiers.create(
      name, num_classes=2, backbone=backbone, width=width, taps=('pool3', 'pool4'),
      gate_width=8, gate_norm='sigmoid', dropout_rate=.5, dtype='float32',
      axis_name=None, remat=False)


def _shapes(model):
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  return jax.eval_shape(functools.partial(model.init, train=False),
                        jax.random.key(0), images)


def _initial(name, backbone):
  """Variables of the slim model: small kernels, no biases."""
  random = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: jnp.asarray(
          .05 * random.standard_normal(leaf.shape) if len(leaf.shape) > 1
          else np.zeros(leaf.shape), leaf.dtype),
      _shapes(_model(name, backbone)))


def _weights(backbone, dense=True):
  """A slim file in torchvision's naming, with an ImageNet head."""
  weights = golden_inputs.weights('vgg16' if dense else 'vgg16_gap', backbone)
  del weights['head.weight'], weights['head.bias']
  if dense:
    weights['classifier.6.weight'] = np.ones((1000, golden_inputs.DENSE_UNITS))
    weights['classifier.6.bias'] = np.ones(1000)
  return {name: array.astype(np.float32) for name, array in weights.items()}


def _timm(weights):
  """The same in timm's naming: dense layers are convolutions."""
  names = {'classifier.0': 'pre_logits.fc1', 'classifier.3': 'pre_logits.fc2',
           'classifier.6': 'head.fc'}
  renamed = {}
  for name, array in weights.items():
    layer, _, kind = name.rpartition('.')
    if kind == 'weight' and layer == 'classifier.0':
      array = array.reshape(array.shape[0], -1, 7, 7)  # noqa: PLW2901
    if kind == 'weight' and layer == 'classifier.3':
      array = array[:, :, None, None]  # noqa: PLW2901
    renamed[f'{names.get(layer, layer)}.{kind}'] = array
  return renamed


def _save(path, weights):
  safetensors.numpy.save_file(
      {name: np.ascontiguousarray(array) for name, array in weights.items()}, path)
  return path


def _full_size_names(backbone):
  """Names and shapes of torchvision's file at width 1."""
  shapes, inputs = {}, 3
  for index, outputs in zip(golden_inputs.CONVOLUTIONS[backbone], FULL_CHANNELS,
                            strict=True):
    shapes[f'features.{index}.weight'] = (outputs, inputs, 3, 3)
    shapes[f'features.{index}.bias'] = (outputs,)
    if backbone == 'vgg16_bn':
      for kind in ('weight', 'bias', 'running_mean', 'running_var'):
        shapes[f'features.{index + 1}.{kind}'] = (outputs,)
    inputs = outputs
  for index, outputs, count in ((0, 4096, 25088), (3, 4096, 4096), (6, 1000, 4096)):
    shapes[f'classifier.{index}.weight'] = (outputs, count)
    shapes[f'classifier.{index}.bias'] = (outputs,)
  return shapes


def test_a_full_size_file_fits():
  for backbone, leaves in (('vgg16', 26), ('vgg16_bn', 26 + 52)):
    # Arrays of one repeated number cost nothing.
    weights = {name: np.broadcast_to(np.float32(.5), shape)
               for name, shape in _full_size_names(backbone).items()}
    variables, report = pretrained.apply_weights(
        _shapes(_model('attnmel_cnn', backbone, width=1.)), weights, backbone=backbone)
    loaded = [leaf for leaf in jax.tree.leaves(variables)
              if isinstance(leaf, jax.Array)]
    assert len(loaded) == leaves
    assert report.dropped == ('classifier.0', 'classifier.3', 'classifier.6')
    assert report.new == ('classifier', 'gate_pool3', 'gate_pool4')


def test_torchvision_and_timm_naming_give_equal_variables(tmp_path):
  """Whose logits are PyTorch's: `test_golden`."""
  for backbone in SHA:
    weights, read = _weights(backbone), []
    for name, tensors in (('tv', weights), ('timm', _timm(weights))):
      loaded = pretrained.load_file(_save(tmp_path / f'{name}.safetensors', tensors))
      variables, report = pretrained.apply_weights(
          _initial('vgg16', backbone), loaded, backbone=backbone)
      assert report.loaded[-2:] == ('classifier.0', 'classifier.3')
      assert report.dropped == ('classifier.6',)
      assert report.new == ('classifier',)
      read.append(variables)
    jax.tree.map(np.testing.assert_array_equal, *read)
    np.testing.assert_array_equal(
        variables['params']['backbone']['conv2_1']['kernel'],
        weights[f'features.{golden_inputs.CONVOLUTIONS[backbone][2]}.weight'
                ].transpose(2, 3, 1, 0))
    # The order of the dense input itself: torch flattens [C, 7, 7].
    kernel = variables['params']['fc1']['kernel']
    want = weights['classifier.0.weight'].reshape(-1, 64, 7, 7)
    np.testing.assert_array_equal(kernel[5 * 49 + 2 * 7 + 4], want[:, 5, 2, 4])


def test_a_file_of_convolutions_alone_leaves_the_dense_layers_new(tmp_path):
  weights = _weights('vgg16', dense=False)
  half = {name: array.astype(np.float16) for name, array in weights.items()}
  loaded = pretrained.load_file(_save(tmp_path / 'half.safetensors', half))
  assert all(array.dtype == np.float32 for array in loaded.values())
  before = _initial('vgg16', 'vgg16')
  variables, report = pretrained.apply_weights(before, loaded, backbone='vgg16')
  assert report.new == ('classifier', 'fc1', 'fc2')
  assert report.lines()[-1] == 'newly initialised: classifier, fc1, fc2'
  assert report.lines()[0].startswith('pretrained: features.0, features.2, features.5')
  assert not report.dropped and len(report.lines()) == 2
  np.testing.assert_array_equal(
      variables['params']['fc1']['kernel'], before['params']['fc1']['kernel'])


def test_weights_of_another_backbone_are_recognised():
  for theirs, ours in (('vgg16', 'vgg16_bn'), ('vgg16_bn', 'vgg16')):
    with pytest.raises(errors.UserError, match=f'{theirs}; set --config.backbone='):
      pretrained.apply_weights({'params': {}}, _weights(theirs), backbone=ours)


def test_unreadable_files(tmp_path):
  with pytest.raises(errors.UserError, match='is not a file'):
    pretrained.load_file(tmp_path / 'absent.pth')
  other = tmp_path / 'weights.bin'
  other.touch()
  with pytest.raises(errors.UserError, match='convert it to one of .safetensors, .pth'):
    pretrained.load_file(other)


def _pretend_torch(monkeypatch, version):
  """Lets the package find `version` of torch installed; None: none."""
  def find(name):
    if version is None:
      raise importlib.metadata.PackageNotFoundError(name)
    return version
  monkeypatch.setattr(importlib.metadata, 'version', find)


def test_pth_with_torch(tmp_path):
  torch = pytest.importorskip('torch', '2.6', reason='reads .pth files')
  weights = _weights('vgg16_bn', dense=False)
  path = tmp_path / 'vgg16_bn.pth'
  tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
  torch.save({**tensors, 'features.1.num_batches_tracked': torch.tensor(7)}, path)
  loaded = pretrained.load_file(path)
  assert set(loaded) == set(weights)
  for name, array in weights.items():
    np.testing.assert_array_equal(loaded[name], array)
  torch.save({'model': tensors}, path)
  with pytest.raises(errors.UserError, match='state_dict'):
    pretrained.load_file(path)


@pytest.mark.slow
def test_rescaled_layers_have_unit_activation_and_keep_their_shape():
  variables, _ = pretrained.apply_weights(
      _initial('vgg16', 'vgg16'), _weights('vgg16'), backbone='vgg16')
  images = jax.random.normal(jax.random.key(5), (2, 32, 32, 3))
  rescaled = pretrained.rescale(variables, images, backbone='vgg16')
  apply = functools.partial(_model('vgg16').apply, images=images, train=False)
  (logits, before), (rescaled_logits, after) = apply(variables), apply(rescaled)
  for name, old in before['features'].items():
    factor = old.max() / after['features'][name].max()
    np.testing.assert_allclose(
        factor * after['features'][name], old, rtol=1e-3, atol=1e-4 * old.max())
  # Both heads are linear and without bias, so the logits keep their ratio too.
  np.testing.assert_allclose(
      rescaled_logits / rescaled_logits[0, 0], logits / logits[0, 0], rtol=1e-3)
  np.testing.assert_allclose(*(
      v['params']['classifier']['kernel'] for v in (variables, rescaled)))
  params = rescaled['params']
  x = images
  for block, layers in enumerate((2, 2, 3, 3, 3), 1):
    for layer in range(1, layers + 1):
      conv = params['backbone'][f'conv{block}_{layer}']
      x = jax.nn.relu(jax.lax.conv_general_dilated(
          x, conv['kernel'], (1, 1), 'SAME',
          dimension_numbers=('NHWC', 'HWIO', 'NHWC')) + conv['bias'])
      assert float(jnp.mean(x ** 2)) == pytest.approx(1, rel=1e-3)
    x = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')


def test_rescale_refuses_normalisation_and_dead_layers():
  with pytest.raises(errors.UserError, match='cannot scale vgg16_bn'):
    pretrained.rescale({}, jnp.ones((1, 32, 32, 3)), backbone='vgg16_bn')
  with pytest.raises(errors.UserError, match='conv1_1 has .* activation 0'):
    pretrained.rescale(_initial('vgg16', 'vgg16'), jnp.zeros((1, 32, 32, 3)),
                       backbone='vgg16')


@pytest.fixture
def server():
  """A local server of `files`; `requests` lists the paths asked for."""
  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
      pass

    def do_GET(self):
      self.server.requests.append(self.path)
      content = self.server.files.get(self.path)
      if content is None:
        self.send_error(404)
        return
      self.send_response(200)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()
      self.wfile.write(content)

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
    running.files, running.requests = {}, []
    running.url = f'http://127.0.0.1:{running.server_port}'
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()


def test_download_without_torch_is_recorded_and_checked(server, tmp_path, monkeypatch):
  _pretend_torch(monkeypatch, None)
  path = '/timm/vgg16_bn.tv_in1k/resolve/main/model.safetensors'
  server.files[path] = b'some weights'
  fetch = functools.partial(pretrained.fetch_imagenet, 'vgg16_bn', tmp_path / 'cache',
                            base_url=server.url)
  for _ in range(2):
    file = fetch()
    assert file == tmp_path / 'cache' / 'vgg16_bn.tv_in1k.safetensors'
    assert file.read_bytes() == b'some weights'
  assert server.requests == [path]  # once
  record = json.loads(file.with_name(file.name + '.json').read_text())
  assert record['sha256'] == hashlib.sha256(b'some weights').hexdigest()
  file.write_bytes(b'same weights')
  with pytest.raises(errors.UserError, match=f'{file} has sha256 .*; remove the file'):
    fetch()


def test_download_with_torch_checks_the_published_prefix(server, tmp_path, monkeypatch):
  _pretend_torch(monkeypatch, '2.6.0+cpu')
  path = f'/m/vgg16-{hashlib.sha256(b"good").hexdigest()[:8]}.pth'
  monkeypatch.setitem(vgg.BACKBONES, 'vgg16', vgg.BACKBONES['vgg16']._replace(
      pth=f'https://x.org{path}'))
  server.files[path] = b'evil'
  fetch = functools.partial(pretrained.fetch_imagenet, 'vgg16', tmp_path,
                            base_url=server.url)
  with pytest.raises(errors.UserError, match='has sha256 .*does not start with'):
    fetch()
  assert not list(tmp_path.iterdir())
  server.files[path] = b'good'
  assert fetch().read_bytes() == b'good'


def test_addresses_carry_the_known_prefixes():
  for backbone, prefix in SHA.items():
    assert vgg.BACKBONES[backbone].pth == (
        f'https://download.pytorch.org/models/{backbone}-{prefix}.pth')
    assert vgg.BACKBONES[backbone].safetensors == (
        f'https://huggingface.co/timm/{backbone}.tv_in1k/resolve/main/'
        'model.safetensors')


def test_a_backbone_without_published_weights(two_blocks, tmp_path):
  with pytest.raises(errors.UserError, match="'two_blocks' has no ImageNet weights"):
    pretrained.fetch_imagenet('two_blocks', tmp_path)


def test_no_such_file_at_the_server_says_what_to_do(server, tmp_path, monkeypatch):
  _pretend_torch(monkeypatch, None)
  with pytest.raises(errors.UserError) as caught:
    pretrained.fetch_imagenet('vgg16', tmp_path, base_url=server.url)
  message = str(caught.value)
  assert f'{server.url}/timm/vgg16.tv_in1k/resolve/main/model.safetensors' in message
  assert f'at {tmp_path / "vgg16.tv_in1k.safetensors"}' in message
  assert '--config.pretrained' in message and '\n' not in message
  assert not list(tmp_path.iterdir())


def test_without_a_place_to_keep_them_weights_are_downloaded_all_the_same(
    server, tmp_path, monkeypatch, capsys):
  _pretend_torch(monkeypatch, None)
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  path = '/timm/vgg16_bn.tv_in1k/resolve/main/model.safetensors'
  server.files[path] = b'some weights'
  (tmp_path / 'a file').touch()
  for folder in (None, tmp_path / 'a file' / 'cache'):
    file = pretrained.fetch_imagenet('vgg16_bn', folder, base_url=server.url)
    assert file.read_bytes() == b'some weights'
    assert capsys.readouterr().err.count('$XDG_CACHE_HOME') == 1
  server.files.clear()
  with pytest.raises(errors.UserError) as caught:
    pretrained.fetch_imagenet('vgg16_bn', None, base_url=server.url)
  assert str(tmp_path) not in str(caught.value)
