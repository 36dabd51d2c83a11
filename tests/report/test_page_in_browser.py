"""report.html in headless Chromium: no errors, and every control does something."""

import base64
import io
import shutil

import numpy as np
from PIL import Image
import pytest

from attnmel_jax.report import page
from attnmel_jax.report.figures import plotting
from tests.report import conftest
from tests.report import run_folders

webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not there')
BROWSER, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER),
                       reason='chromium and chromedriver are not on the path')]
NASTY = '<img src=x onerror=alert(1)>'


@pytest.fixture
def written(make_run, found, grouped, prepared, tmp_path):
  """A report of two binary systems with maps, and of one with all three classes."""
  data = conftest.open_split(prepared, 'test')
  maps = conftest.maps(9, 'pool3')
  maps['pool4'] = np.array([[[0, 0], [0, 1]]] * 9, np.float32)
  for name, wrong, roi in (('first', 3, 'none'), (NASTY, 2, 'lesion')):
    make_run(name, conftest.rows_of(prepared, 'test', wrong=wrong), maps=maps, roi=roi)
  make_run(
      'three', (data.ids, data.labels, np.eye(3)[(data.labels + 1) % 3]), maps=maps,
      positive=(), class_names=tuple(data.class_names))
  plotting.save_chart(plotting.blank(2, 2), tmp_path / 'figures', 'chart')
  entry = plotting.Entry('Curve', 'Of it.', 'chart', chart=True)
  path = tmp_path / 'report.html'
  path.write_text(page.render(
      found(), [], [entry], grouped(), [NASTY],
      run_folders.plan(data_dir=prepared), tmp_path / 'figures'))
  return path


@pytest.fixture
def driver(tmp_path):
  """A browser that has its own profile and stays off the network."""
  options = webdriver.ChromeOptions()
  options.binary_location = BROWSER
  for flag in ('headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run',
               'disable-background-networking', 'disable-component-update',
               'disable-sync', 'window-size=1200,1000',
               f'user-data-dir={tmp_path / "profile"}'):
    options.add_argument(f'--{flag}')
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  service = webdriver.ChromeService(DRIVER)
  opened = webdriver.Chrome(options=options, service=service)
  yield opened
  opened.quit()


class _Viewer:
  """The gallery of an open page."""

  def __init__(self, driver):
    self.driver = driver

  def get(self, name):
    return self.driver.find_element('id', name)

  def choose(self, name, text):
    """By mouse, as far as a headless browser has one for a list."""
    next(option for option in self.get(name).find_elements('tag name', 'option')
         if option.text == text or option.text.startswith(f'{text} (')).click()

  def options(self, name):
    return [option.text
            for option in self.get(name).find_elements('tag name', 'option')]

  def chosen(self, name):
    return self.driver.execute_script(
        'return arguments[0].selectedOptions[0].text', self.get(name))

  def keys(self, name, keys):
    self.driver.execute_script('arguments[0].focus()', self.get(name))
    self.driver.switch_to.active_element.send_keys(keys)

  @property
  def heat(self):
    """The heat map as pixels [S, S, 3]."""
    uri = self.driver.execute_script('return arguments[0].toDataURL()',
                                     self.get('heat'))
    with Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))) as picture:
      return np.asarray(picture.convert('RGB')).astype(int)

  @property
  def opacity(self):
    return float(self.get('heat').value_of_css_property('opacity'))

  @property
  def said(self):
    return self.get('said').text


def test_the_controls_change_what_is_shown(driver, written):
  driver.get(written.as_uri())
  viewer = _Viewer(driver)
  assert viewer.get('viewer').is_displayed()
  driver.execute_script('arguments[0].scrollIntoView()', viewer.get('viewer'))
  assert viewer.options('set') == ['ISIC 2017: 9 test images, melanoma against other',
                                   'ISIC 2017: 9 test images, 3 classes']
  assert viewer.options('system') == ['AttnMel-CNN', 'AttnMel-CNN-Lesion']
  _check_systems_and_maps(viewer)
  _check_decisions_and_images(viewer)
  _check_slider_and_outline(viewer)
  viewer.choose('set', viewer.options('set')[1])
  assert {'all errors (9)', 'rightly classified (0)'} < set(viewer.options('kind'))
  viewer.choose('kind', 'misclassified nevus')
  assert '(misclassified nevus)' in viewer.said
  assert 'threshold' not in viewer.said
  assert 'alert' not in driver.page_source.replace('alert(1)&gt;', '')
  assert driver.get_log('browser') == []


def _check_systems_and_maps(viewer):
  assert viewer.chosen('map') == 'pool-4'
  # [[0, 0], [0, 1]] from dark blue to the yellow of viridis, by bilinear interpolation.
  heat = viewer.heat
  assert np.abs(heat[10, 10] - [68, 1, 84]).max() <= 1
  assert np.abs(heat[-10, -10] - [253, 231, 37]).max() <= 1
  assert np.abs(heat[127:129, -10] - heat[-10, 127:129]).max() <= 3
  assert np.abs(heat[127:129, -10].mean(axis=0) - [33, 145, 140]).max() <= 4
  viewer.choose('map', 'pool-3')
  assert 'pool-3' in viewer.said and (viewer.heat != heat).any()
  viewer.choose('system', 'AttnMel-CNN-Lesion')
  assert viewer.chosen('map') == 'pool-3'  # it stays
  assert 'AttnMel-CNN-Lesion' in viewer.said
  viewer.keys('system', '\ue013')  # the arrow up
  assert viewer.chosen('system') == 'AttnMel-CNN'


def _check_decisions_and_images(viewer):
  assert len(viewer.options('image')) == 9
  viewer.choose('kind', 'all errors')
  assert len(viewer.options('image')) == 3
  viewer.choose('kind', 'missed melanoma')
  assert 'other (missed melanoma)' in viewer.said
  stays = viewer.chosen('image')
  viewer.choose('kind', 'all images')
  assert viewer.chosen('image') == stays
  viewer.choose('image', viewer.options('image')[0])
  first = viewer.chosen('image')
  photograph = viewer.get('photograph').get_attribute('src')
  assert not viewer.get('previous').is_enabled()
  viewer.get('next').click()
  second = viewer.chosen('image')
  assert second != first and second.split(',')[0] in viewer.said
  assert viewer.get('photograph').get_attribute('src') != photograph
  viewer.keys('next', '\ue007')  # Enter
  assert viewer.chosen('image') not in (first, second)
  viewer.get('previous').click()
  assert viewer.chosen('image') == second
  viewer.keys('image', '\ue013')
  assert viewer.chosen('image') == first


def _check_slider_and_outline(viewer):
  assert viewer.opacity == pytest.approx(0.6)
  viewer.keys('slide', '\ue014')  # the arrow to the right
  assert viewer.opacity == pytest.approx(0.65)
  viewer.keys('slide', '\ue011')  # Home
  assert viewer.opacity == 0
  chains = webdriver.ActionChains(viewer.driver)
  width = viewer.get('slide').size['width']
  chains.move_to_element_with_offset(viewer.get('slide'), width // 2 - 2, 0)
  chains.click().perform()
  assert viewer.opacity >= 0.95
  outline = viewer.get('lesion')
  assert outline.is_displayed()
  assert outline.find_element('tag name', 'path').get_attribute('d').startswith('M')
  viewer.get('outlined').click()
  assert not outline.is_displayed()
  viewer.keys('outlined', ' ')
  assert outline.is_displayed()


def test_the_order_of_the_keyboard_and_narrow_screens(driver, written):
  driver.get(written.as_uri())
  driver.execute_script("document.getElementById('set').focus()")
  order = ['set']
  for _ in range(7):
    driver.switch_to.active_element.send_keys('\ue004')  # Tab
    order.append(driver.switch_to.active_element.get_attribute('id'))
  # At the first image there is nothing before.
  assert order == ['set', 'system', 'map', 'kind', 'image', 'next', 'slide', 'outlined']
  for scheme, ground in (('light', '(255, 255, 255'), ('dark', '(21, 23, 26')):
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [
        {'name': 'prefers-color-scheme', 'value': scheme}]})
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
        'width': 390, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False})
    wide = driver.execute_script('return document.documentElement.scrollWidth')
    assert wide <= 390
    body = driver.find_element('tag name', 'body')
    assert ground in body.value_of_css_property('background-color')
  assert driver.get_log('browser') == []
  assert written.stat().st_size < 10_000_000
