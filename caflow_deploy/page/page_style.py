"""Fonts, style sheet and scripts of the page."""

FONTS = ["system-ui", "sans-serif"]
MONOSPACED = ["ui-monospace", "monospace"]
"""Fonts of the visitor's machine. Gradio's own fonts would be fetched from another server."""
CSS = """
.gradio-container { max-width: 1280px }
#given { height: 8.5rem }
#looked, #slider, .map { padding-top: 2rem }
#looked img { image-rendering: pixelated }
#gallery .grid-wrap { min-height: 0; max-height: none }
#gallery .grid-container { padding-top: 2rem; grid-template-columns: repeat(auto-fill, minmax(max(7rem, 20%), 1fr)) }
#gallery .thumbnail-item { aspect-ratio: auto; display: flex; flex-direction: column }
#gallery .caption-label { position: static; max-width: none; border: 0 }
#slider { scroll-margin: 1rem }
#slider .wrap:has(> .error) { display: none }
@media (max-width: 800px) { #columns:has(#slider img) #results { order: -1 } }
.verdict { font-size: 1.2rem; font-weight: 600 }
.verdict::before { content: "●"; margin-right: 0.5rem }
.verdict.unjudged { font-size: inherit; font-weight: inherit }
.settings { color: var(--block-info-text-color) }
.usual::before { color: #2e9e4f } .unusual::before { color: #e07b00 } .unjudged::before { color: #888 }
"""
"""The "Error" that Gradio would lay over an earlier result is hidden, because the message says what is wrong. On a
narrow screen, results come before the settings as soon as there are some."""
DISMISS_ERRORS = "() => document.querySelectorAll('[data-testid=toast-close]').forEach(button => button.click())"
"""JavaScript that closes the error messages of earlier actions."""
SHOW_RESULTS = """
() => {
  const waiting = setInterval(() => {
    const image = document.querySelector('#slider img')
    if (image?.complete) {
      clearInterval(waiting)
      image.closest('#slider').scrollIntoView({ block: 'nearest' })
    }
  }, 50)
}
"""
"""JavaScript that scrolls to the results as soon as they are loaded, if they are out of sight."""
