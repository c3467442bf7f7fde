// Browsers refuse to start a worker of a page that was opened as a file, so the search would not work there. This runs
// the worker's script in a hidden frame instead, and passes messages between both.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.documentElement.append(this.frame)
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = this.frame.contentDocument.createElement("script")
      script.src = new URL(url, document.baseURI)
      script.onload = () => {
        this.isReady = true
        this.waiting.splice(0).forEach((data) => this.postMessage(data))
      }
      this.frame.contentDocument.head.append(script)
    }

    postMessage(data) {
      if (!this.isReady) return void this.waiting.push(data)
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
